package drill

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"parley/pkg/relaytest"
)

func TestAProxyCutsOffAndLetsThroughAgain(t *testing.T) {
	relaytest.NoLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echoed := make(chan struct{})
	go func() { // one connection after the other, a line each time
		defer close(echoed)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for r := bufio.NewReader(c); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					break
				}
				fmt.Fprint(c, line)
			}
			_ = c.Close()
		}
	}()
	p, err := startProxy(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	read := func(want string) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(relaytest.Patience))
		if got, err := r.ReadString('\n'); err != nil || got != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	fmt.Fprint(c, "one\n")
	read("one\n")
	p.setCut(true)
	fmt.Fprint(c, "two\n")
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if got, err := r.ReadString('\n'); !os.IsTimeout(err) {
		t.Errorf("%q, %v came through", got, err)
	}
	p.setCut(false)
	read("two\n")
	p.setCut(true)
	waiting, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	p.close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection stands after the proxy has ended")
	}
	_ = c.Close()
	_ = waiting.Close()
	_ = l.Close()
	<-echoed
}
