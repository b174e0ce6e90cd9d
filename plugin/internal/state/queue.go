package state

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// lateSeconds is how long after its time a waiting ADD may still stand before others: a stopped process must not hold up a node.
const lateSeconds = 1.0

// Queue is who waits, as one ADD sees it. It reads a mark once, and none that is younger, for hundreds may look at the same time.
type Queue struct {
	mark   *Mark
	known  map[entry]markBody // of those that can't be read, and of younger ones, without pools
	before map[string]bool    // who was there at the first look
}

// entry is a name in a directory, with the inode number, which tells a rewritten file.
type entry struct {
	name  string
	inode uint64
}

// NewQueue sees the queue with the eyes of the ADD that the mark is (or would be) of.
func NewQueue(mark *Mark) *Queue { return &Queue{mark: mark, known: map[entry]markBody{}} }

// Length says how many were there before this one, and still are. The first look is part of each ADD, so it costs no more than listing a directory.
func (q *Queue) Length() int {
	marks, err := entries(q.mark.dir.path("pending"))
	if err != nil || len(marks) == 0 {
		return 0
	}
	if q.before == nil {
		q.before = make(map[string]bool, len(marks))
		for _, mark := range marks {
			q.before[mark.name] = true
		}
	}
	count := 0
	for _, mark := range marks {
		if q.before[mark.name] {
			count++
		}
	}
	return count
}

// Older counts for each pool the ADDs that wait for it longer than this one, up to what is enough.
// A dead one is counted too, but each ADD buries the one right before it; so one look at one file is all that the dead cost anybody.
func (q *Queue) Older(pools []string, enough func(pool string, count int) bool) map[string]int {
	counts := map[string]int{}
	marks, _ := entries(q.mark.dir.path("pending"))
	previous, latest := "", 0.0
	for _, mark := range marks {
		body, seen := q.known[mark]
		if !seen {
			body = q.read(mark)
			q.known[mark] = body
		}
		if !slices.ContainsFunc(body.pools, func(pool string) bool { return slices.Contains(pools, pool) }) || body.until+lateSeconds < Now() {
			continue
		}
		if body.since >= latest {
			previous, latest = mark.name, body.since
		}
		for _, pool := range body.pools {
			counts[pool]++
		}
		if !slices.ContainsFunc(pools, func(pool string) bool { return !enough(pool, counts[pool]) }) {
			break
		}
	}
	if previous != "" {
		q.bury(previous)
	}
	return counts
}

// read gives a mark's body if it is older than this one and waits for any address that comes, else one without pools.
func (q *Queue) read(mark entry) markBody {
	var stat unix.Stat_t
	own := &q.mark.body
	if mark.name == q.mark.key || unix.Lstat(q.mark.dir.path("pending/"+mark.name), &stat) != nil {
		return markBody{}
	}
	if since := float64(stat.Mtim.Sec) + float64(stat.Mtim.Nsec)/1e9; since > own.since+1e-3 { // the file's time alone sorts out the younger
		return markBody{}
	}
	body, err := q.mark.dir.readMark(mark.name)
	if err != nil || body.particular || body.since > own.since || body.since == own.since && mark.name > q.mark.key {
		return markBody{}
	}
	return body
}

// bury removes a mark whose process is gone, under the lock.
func (q *Queue) bury(key string) {
	dir := q.mark.dir
	fd, err := unix.Open(dir.path("pending/"+key), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
		return // it lives
	}
	unlock, err := dir.Lock()
	if err != nil {
		return
	}
	defer unlock()
	var own, there unix.Stat_t // another ADD may have put a mark of its own there
	if unix.Fstat(fd, &own) == nil && unix.Lstat(dir.path("pending/"+key), &there) == nil && own.Ino == there.Ino {
		_ = dir.RemoveMark(key)
	}
}

// entries lists a directory without what is nobody's data.
func entries(path string) ([]entry, error) {
	found, err := list(path)
	return slices.DeleteFunc(found, func(one entry) bool { return nobodys(one.name) }), err
}

func list(path string) ([]entry, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var found []entry
	buffer := make([]byte, 8<<10)
	for {
		n, err := unix.ReadDirent(fd, buffer)
		if err != nil || n <= 0 {
			return found, err
		}
		for rest := buffer[:n]; len(rest) > 0; {
			// struct linux_dirent64: inode (8 bytes), offset (8), length (2), type (1), name
			length := binary.NativeEndian.Uint16(rest[16:])
			name, _, _ := strings.Cut(string(rest[19:length]), "\x00")
			found = append(found, entry{name, binary.NativeEndian.Uint64(rest)})
			rest = rest[length:]
		}
	}
}
