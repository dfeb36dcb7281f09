package wsclient

import "syscall"

// ipBindAddressNoPort is IP_BIND_ADDRESS_NO_PORT, which package syscall lacks.
const ipBindAddressNoPort = 24

// bindWithoutPort lets the kernel choose the source port when it connects, by
// the whole 4-tuple, and not when it binds: so a source address has its range
// of ports once for each address that is dialled. An old kernel that does not
// know the option serves with fewer ports.
func bindWithoutPort(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, ipBindAddressNoPort, 1)
	})
}
