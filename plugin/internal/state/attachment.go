package state

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"podcidr.io/plugin/internal/cni"
	"podcidr.io/plugin/internal/fault"
)

// ErrHeld says that an address chosen as free is held: the index said free too often.
var ErrHeld = errors.New("address is held")

// ErrAttached says that an attachment of this key exists.
var ErrAttached = errors.New("attachment exists")

// Key names one interface of one container in one network. A colon is legal in none of the three.
type Key struct{ Network, Container, Interface string }

func (k Key) String() string { return k.Network + ":" + k.Container + ":" + k.Interface }

// Pod is who the runtime says it is for.
type Pod struct{ Namespace, Name, UID string }

// Held is one address of an attachment.
type Held struct {
	Address         netip.Addr
	Pool            string
	Block           netip.Prefix
	CooldownSeconds uint32
}

// Attachment is a file in attachments/.
type Attachment struct {
	StateID    string
	Key        Key
	Netns      string
	Pod        Pod
	IPs        []Held
	AssignedAt float64
	Result     *cni.Result // nil: it was recovered without

	inode, links uint64 // links: of attachments/, of addresses/ and of nothing else
}

func (d Dir) attachmentPath(key string) string      { return d.path("attachments/" + key) }
func (d Dir) addressPath(address netip.Addr) string { return d.path("addresses/" + address.String()) }

// ReadAttachment gives nil where there is none. A record that can't be understood comes with the error, and holds only its inode.
func (d Dir) ReadAttachment(key string) (*Attachment, error) {
	path := d.attachmentPath(key)
	data, stat, err := readFile(path)
	if missing(err) {
		return nil, nil
	}
	if err == unix.ENAMETOOLONG {
		return nil, fault.New(fault.InvalidConfig, "name: %q makes a file name of more than 255 bytes together with container and interface; use a shorter network name", key)
	}
	if err != nil {
		return nil, fault.IO("reading", path, err)
	}
	record := &Attachment{inode: stat.Ino, links: uint64(stat.Nlink)}
	if err := record.parse(path, data); err != nil {
		return &Attachment{inode: record.inode, links: record.links}, err
	}
	return record, nil
}

// Holds says whether the address link is this attachment's file.
func (d Dir) Holds(a *Attachment, address netip.Addr) bool {
	var stat unix.Stat_t
	return unix.Lstat(d.addressPath(address), &stat) == nil && stat.Ino == a.inode
}

// Complete says whether the attachment holds all that it lists.
func (d Dir) Complete(a *Attachment) bool {
	for _, held := range a.IPs {
		if !d.Holds(a, held.Address) {
			return false
		}
	}
	return len(a.IPs) > 0
}

// Assign writes the attachment and claims its addresses, all or none, under the lock. With ErrHeld comes the address that is held.
func (d Dir) Assign(a *Attachment, index *Index) (netip.Addr, error) {
	key, fresh := a.Key.String(), d.fresh("attachment")
	fd, err := create(fresh, a.text())
	if err != nil {
		return netip.Addr{}, fault.IO("writing", fresh, err)
	}
	unix.Close(fd)
	defer func() { _ = unix.Unlink(fresh) }()
	if err := unix.Link(fresh, d.attachmentPath(key)); err != nil {
		if err == unix.EEXIST {
			return netip.Addr{}, ErrAttached
		}
		return netip.Addr{}, d.ioError("linking", d.attachmentPath(key), err)
	}
	if address, err := d.claim(fresh, a.IPs); err != nil {
		_ = unix.Unlink(d.attachmentPath(key))
		return address, err
	}
	d.noteHeld(a.IPs, index)
	return netip.Addr{}, nil
}

// noteHeld can't fail an ADD that holds its addresses already: an index that is torn now is built anew from them.
func (d Dir) noteHeld(ips []Held, index *Index) {
	var torn error
	defer d.CatchTorn(&torn)
	for _, held := range ips {
		index.Set(held.Address, EntryHeld)
	}
}

// claim links every address to the file, or none.
func (d Dir) claim(file string, ips []Held) (netip.Addr, error) {
	for i, held := range ips {
		err := unix.Link(file, d.addressPath(held.Address))
		if err == nil {
			continue
		}
		for _, done := range ips[:i] {
			_ = unix.Unlink(d.addressPath(done.Address))
		}
		if err == unix.EEXIST {
			return held.Address, ErrHeld
		}
		return held.Address, d.ioError("linking", d.addressPath(held.Address), err)
	}
	return netip.Addr{}, nil
}

// Release frees what the attachment holds and removes it, under the lock. It goes on after an error, and gives the first.
func (d Dir) Release(key string, a *Attachment) error {
	var failed error
	keep := func(err error) {
		if err != nil && !missing(err) && failed == nil {
			failed = err
		}
	}
	if len(a.IPs) == 0 {
		keep(d.releaseByInode(a.inode))
	}
	held := make([]Held, 0, len(a.IPs))
	var others []Held
	for _, ip := range a.IPs {
		if d.Holds(a, ip.Address) {
			held = append(held, ip)
		} else {
			others = append(others, ip)
		}
	}
	d.coolLapsed(key, others)
	d.cool(held)
	for _, ip := range held {
		keep(unix.Unlink(d.addressPath(ip.Address)))
	}
	if failed == nil { // as long as an address is held, its record stays, so that it can be released
		keep(unix.Unlink(d.attachmentPath(key)))
	}
	if failed != nil {
		return fault.IO("releasing", d.attachmentPath(key), failed)
	}
	return nil
}

// releaseByInode is for a damaged record: whatever is linked to it goes.
func (d Dir) releaseByInode(inode uint64) error {
	found, err := names(d.path("addresses"))
	if err != nil {
		return err
	}
	for _, name := range found {
		var stat unix.Stat_t
		path := d.path("addresses/" + name)
		if unix.Lstat(path, &stat) != nil || stat.Ino != inode {
			continue
		}
		if address, err := netip.ParseAddr(name); err == nil {
			d.coolUnknown(address)
		}
		if err := unix.Unlink(path); err != nil {
			return err
		}
	}
	return nil
}

// AttachmentKeys lists the attachments.
func (d Dir) AttachmentKeys() ([]string, error) { return names(d.path("attachments")) }

// AddressPath is for messages.
func (d Dir) AddressPath(address netip.Addr) string { return d.addressPath(address) }

// AttachmentPath is for messages.
func (d Dir) AttachmentPath(key string) string { return d.attachmentPath(key) }
