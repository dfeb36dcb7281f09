//go:build !unix

package wsclient

import "net"

// watched is for systems that can tell what has come and was not read.
type watched struct{ net.Conn }

func watch(net.Conn) *watched { return nil }

func (*watched) quiet() bool { return true }
