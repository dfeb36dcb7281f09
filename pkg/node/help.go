package node

import (
	"fmt"
	"io"
	"strings"
)

// WriteHelp writes what `parley --help` shows.
func WriteHelp(w io.Writer) {
	fmt.Fprint(w, `Parley relays messages between clients that are connected to any node of a fleet.

Usage:
  parley [serve] [flags]   run a node
  parley healthcheck       ask the node on this machine whether it is ready; exit 0 or 1
  parley version           print the version

Without flags a node runs alone, with a Redis inside the process:
  parley                                         open http://localhost:8398
A fleet is any number of nodes on one Redis, behind a balancer:
  parley --listen :8398 --redis-url redis://redis:6379 --trusted-proxies 10.0.0.0/8 \
         --database-url mysql://parley:password@mariadb/parley

Flags, each also as an environment variable; a flag counts before the variable,
and both before a line "name = value" in the file that --config (PARLEY_CONFIG)
names. A limit of 0 is off. Durations are written like 25s or 5m.

`)
	for _, s := range Settings() {
		fmt.Fprintf(w, "  --%s %s\n", s.Name, s.Argument)
		for _, line := range wrap(s.Help, 70) {
			fmt.Fprintf(w, "        %s\n", line)
		}
		for _, line := range wrap("("+strings.Join(s.Env, ", ")+defaultText(s)+")", 70) {
			fmt.Fprintf(w, "        %s\n", line)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, `Signals: SIGTERM or SIGINT drains the node (see --drain-delay, --drain-window)
and exits 0; a second one exits at once with 1. Wrong settings exit with 2.
`)
}

func defaultText(s Setting) string {
	if s.Default == "" {
		return ""
	}
	return "; default " + s.Default
}

// wrap breaks a text into lines of at most width bytes, where words allow.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
