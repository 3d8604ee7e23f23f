package store

import "syscall"

// networkFileSystem names the kind of network file system that dir is on, "" for a local one or when it
// cannot be told. SQLite's WAL needs memory shared between processes, which these do not have:
// https://sqlite.org/wal.html#noshm.
func networkFileSystem(dir string) string {
	var stat syscall.Statfs_t
	if syscall.Statfs(dir, &stat) != nil {
		return ""
	}
	return networkKind(int64(stat.Type)) //nolint:unconvert // its type differs between the architectures
}

// networkKind knows file systems by their magic numbers, from statfs(2).
func networkKind(magic int64) string {
	switch uint32(magic) {
	case 0x6969:
		return "NFS"
	case 0x517b, 0xff534d42, 0xfe534d42:
		return "SMB"
	case 0x00c36400:
		return "Ceph"
	case 0x5346414f, 0x6b414653:
		return "AFS"
	case 0x0bd00bd0:
		return "Lustre"
	}
	return ""
}
