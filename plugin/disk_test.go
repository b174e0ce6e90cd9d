package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// onItsOwnDisk moves the node to a small tmpfs.
func (n *node) onItsOwnDisk(options string) {
	n.t.Helper()
	if os.Getuid() != 0 {
		n.t.Skip("SKIPPED: only root can mount a small file system; what happens on a full one is not tested")
	}
	n.must(os.RemoveAll(n.dir))
	n.must(os.Mkdir(n.dir, 0o700))
	if err := syscall.Mount("tmpfs", n.dir, "tmpfs", 0, options); err != nil {
		n.t.Skip("SKIPPED: no file system can be mounted here: ", err)
	}
	n.t.Cleanup(func() { _ = syscall.Unmount(n.dir, syscall.MNT_DETACH) })
	for _, dir := range []string{"namespaces", "attachments", "addresses", "pending"} {
		n.must(os.Mkdir(n.path(dir), 0o700))
	}
	n.allocate(one(dual("10.64.3.0/24", "fd00:64::/120")))
	n.write("namespaces/team", object{"stateID": "s1"})
	n.write("ready", object{"version": 1, "stateID": "s1"})
}

// TestFullDisk: an ADD fails and leaves nothing; a DEL always works, and makes room; STATUS does not mind.
func TestFullDisk(t *testing.T) {
	for what, c := range map[string]struct {
		options, filler string
		each            []byte
	}{
		"no space":  {"size=160k", "filler%d", make([]byte, 4096)},
		"no inodes": {"nr_inodes=60", "filler%d", nil},
	} {
		t.Run(what, func(t *testing.T) {
			n := newNode(t, one(v4(0)))
			n.onItsOwnDisk(c.options)
			n.add("a")
			n.add("b")
			for i := 0; os.WriteFile(n.path(fmt.Sprintf(c.filler, i)), c.each, 0o600) == nil; i++ {
				if i > 1000 {
					t.Fatal("the disk is never full")
				}
			}
			before := n.list("addresses")
			n.run("ADD", "c").fails(t, 5, "/attachment.", "not full")
			equal(t, n.list("addresses"), before)
			equal(t, n.list("attachments"), []string{"podnet:a:eth0", "podnet:b:eth0"})
			n.run("ADD", "d", waiting(0.3), cniArgs("K8S_POD_NAMESPACE=unknown")).fails(t, 5, "/pending.")
			equal(t, n.list("pending"), []string{})
			n.ok("STATUS", "")
			equal(t, n.add("a").address(), "10.64.3.0")
			n.ok("DEL", "a")
			n.ok("DEL", "b")
			n.ok("DEL", "c")
			equal(t, n.list("addresses"), []string{})
			equal(t, n.halfWritten(), []string{})
			n.must(os.Remove(n.path(fmt.Sprintf(c.filler, 0))))
			n.must(os.Remove(n.path(fmt.Sprintf(c.filler, 1))))
			n.add("c")
			n.audit()
		})
	}
}

// TestFullDiskWhenTheIndexIsBuilt: the index, which is the largest file, is written in full or not at all; a page that is missing later would kill the process.
func TestFullDiskWhenTheIndexIsBuilt(t *testing.T) {
	n := newNode(t, one(v4(0)))
	n.onItsOwnDisk("size=200k")
	n.add("a")
	blocks := []string{}
	for i := range 64 {
		blocks = append(blocks, fmt.Sprintf("10.65.%d.0/22", i*4))
	}
	n.allocate(one(v4(0, blocks...)))
	n.run("ADD", "b").fails(t, 5, n.path("index"), "not full")
	equal(t, n.halfWritten(), []string{})
	n.ok("DEL", "a")
	n.allocate(one(v4(0, "10.64.3.0/24")))
	n.add("b")
	n.audit()
}

func TestReadOnlyDisk(t *testing.T) {
	n := newNode(t, one(v4(0)))
	n.onItsOwnDisk("size=1m")
	n.add("a")
	n.must(syscall.Mount("", n.dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	for _, verb := range []string{"ADD", "DEL"} {
		r := n.run(verb, "b")
		if verb == "ADD" {
			r.fails(t, 5, n.path("lock"), "read-only", "writable")
		} else {
			equal(t, r.exit, 0) // a runtime would never call again
		}
	}
	n.ok("STATUS", "")
	n.ok("CHECK", "a", top("prevResult", object{"cniVersion": "1.1.0", "ips": []object{{"address": "10.64.3.0/14"}, {"address": "fd00:64::/48"}}}))
	n.must(syscall.Mount("", n.dir, "", syscall.MS_REMOUNT, ""))
	n.ok("DEL", "a")
	equal(t, n.list("addresses"), []string{})
}

// TestForeignFiles: what is no file, or may not be read, in place of one. Nothing is assigned by guessing, and DEL never fails.
func TestForeignFiles(t *testing.T) {
	for _, name := range []string{"ready", "allocation.json", "namespaces/team", "attachments/podnet:a:eth0", "index", "lock"} {
		for what, place := range map[string]func(path string) error{
			"directory": func(path string) error { return os.Mkdir(path, 0o700) },
			"dangling":  func(path string) error { return os.Symlink("/nonexistent/file", path) },
			"FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				n := newNode(t, one(v4(0, "10.64.3.0/28")))
				n.add("other")
				_ = os.Remove(n.path(name))
				n.must(place(n.path(name)))
				r := n.run("ADD", "a")
				if r.took > 8*time.Second {
					t.Errorf("hung for %v", r.took)
				}
				if name == "index" && what != "directory" { // a cache: replaced
					equal(t, r.exit, 0)
				} else {
					r.fails(t, 5, n.path(name), "in the place of a file")
				}
				equal(t, n.list("addresses")[0], "10.64.3.0")
				del := n.run("DEL", "other")
				if del.exit != 0 || del.took > 8*time.Second {
					t.Errorf("DEL: exit %d after %v: %s", del.exit, del.took, del.stdout)
				}
			})
		}
	}
}

// TestWrongPermissions: root may read anything, so another user runs the plugin.
func TestWrongPermissions(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: not root, so no other user can be tried")
	}
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	public := n.public()
	for _, c := range []struct {
		name string
		mode os.FileMode
		word string
	}{
		{"", 0, "permission denied"}, {"lock", 0, "permission denied"}, {"ready", 0, "permission denied"}, {"allocation.json", 0, "permission denied"},
		{"namespaces/team", 0, "permission denied"}, {"attachments", 0o500, "permission denied"}, {"addresses", 0o500, "permission denied"}, {"index", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &node{t, public}
			n.asNobody("ADD", "warm")
			info, err := os.Stat(n.path(c.name))
			n.must(err)
			n.must(os.Chmod(n.path(c.name), c.mode))
			r := n.asNobody("ADD", "a")
			if status := n.asNobody("STATUS", ""); c.name == "" || c.name == "ready" {
				status.fails(t, 50, c.word, n.path("ready"), "owner") // and not that it was missing
			} else {
				equal(t, status.exit, 0)
			}
			n.must(os.Chmod(n.path(c.name), info.Mode().Perm()))
			if c.word != "" {
				r.fails(t, 5, c.word, n.path(c.name), "owner")
			}
			equal(t, n.asNobody("DEL", "a").exit, 0)
			equal(t, n.asNobody("DEL", "warm").exit, 0)
			equal(t, n.list("addresses"), []string{})
		})
	}
}

func TestTooManyOpenFiles(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("SKIPPED: prlimit is not installed, and what a full table of files does is not tried")
	}
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.run("ADD", "a", under("prlimit", "--nofile=3:3")).fails(t, 5, n.path("lock"), "too many open files", "ulimit -n")
}

const nobody = 65534

// public copies the state directory, and the plugin, to where another user finds them.
func (n *node) public() string {
	n.t.Helper()
	root, err := os.MkdirTemp("", "podcidr-nobody")
	n.must(err)
	n.t.Cleanup(func() { os.RemoveAll(root) })
	dir := filepath.Join(root, "podcidr")
	n.must(os.CopyFS(dir, os.DirFS(n.dir)))
	program, err := os.ReadFile(binary)
	n.must(err)
	n.must(os.WriteFile(filepath.Join(root, "podcidr-ipam"), program, 0o755))
	n.must(filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			err = os.Chown(path, nobody, nobody)
		}
		if err == nil && info.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	}))
	return dir
}

func (n *node) asNobody(verb, container string) reply {
	n.t.Helper()
	cmd := n.command(verb, container)
	cmd.Path = filepath.Join(filepath.Dir(n.dir), "podcidr-ipam")
	cmd.Args = []string{cmd.Path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return finish(n.t, cmd)
}

// TestLockHeldByAStoppedProcess: a bounded wait, and then the pid of the one to look at.
func TestLockHeldByAStoppedProcess(t *testing.T) {
	needStrace(t)
	n := newNode(t, one(v4(0, "10.64.3.0/28")))
	n.add("warm")
	stuck := n.command("ADD", "stuck", under("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", "inject=linkat:delay_enter=60000000:when=1"))
	n.must(stuck.Start())
	eventually(t, "the lock is held", func() bool { return n.flocked("lock") && len(n.halfWritten()) > 0 })
	var pid int
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", stuck.Process.Pid, stuck.Process.Pid))
	n.must(err)
	_, err = fmt.Sscan(string(children), &pid)
	n.must(err)
	n.must(syscall.Kill(pid, syscall.SIGSTOP))
	r := n.run("ADD", "a")
	r.fails(t, 11, n.path("lock"), fmt.Sprint("process ", pid), "podcidr-ipam")
	if r.took < 4*time.Second || r.took > 20*time.Second {
		t.Errorf("waited %v", r.took)
	}
	n.ok("STATUS", "")
	n.must(syscall.Kill(pid, syscall.SIGKILL))
	_ = stuck.Process.Kill()
	_ = stuck.Wait()
	equal(t, n.add("a").address(), "10.64.3.1")
	n.ok("DEL", "stuck")
	n.audit()
}
