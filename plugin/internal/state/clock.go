package state

import "golang.org/x/sys/unix"

// Now is CLOCK_BOOTTIME in seconds: one clock for all processes of a boot, which nobody can set.
func Now() float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic("CLOCK_BOOTTIME: " + err.Error()) // in Linux since 2.6.39
	}
	return float64(now.Sec) + float64(now.Nsec/1000)/1e6
}
