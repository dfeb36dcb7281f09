package main

import (
	"flag"
	"fmt"
	"strings"
)

const intro = `parley-bench loads a fleet of nodes and reports what it did.

Usage:  parley-bench SUBCOMMAND [settings]

`

const outro = `
Try it, with a node and its Redis on this machine:

  parley --rate 0 &
  parley-bench direct --server-pids $! --duration 10s
  parley-bench fanout --server-pids $! --subscribers 200
  parley-bench rooms --server-pids $! --clients 10

or without any, since this one starts what it needs:

  parley-bench poll

Set --rate 0 on the nodes that you load, or they refuse (ERATE) what comes
faster than a person writes. Client and servers share what CPUs the machine
has: compare runs of one session only, interleaved, and rather the CPU time a
message than the throughput.

"parley-bench SUBCOMMAND --help" explains a subcommand with all its settings.

The report is a table on standard output, or with --json one JSON object. Ctrl-C
ends a run early, and reports what was measured so far.

Exit codes: 0 all is well. 1 an acknowledged message was lost, duplicated or
out of order, something arrived that nobody sent, a connection failed or ended
by itself, or nothing could be measured. 2 wrong settings, all of them named.
Refused and unanswered messages break no promise: they are reported, with exit
code 0.
`

func overview() string {
	var b strings.Builder
	b.WriteString(intro)
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-8s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(&b, "  %-8s %s\n", drillName, drillSummary)
	b.WriteString(outro)
	return b.String()
}

// help is what `parley-bench COMMAND --help` prints.
func (c command) help(s *settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "parley-bench %s: %s\n\n%s\n", c.name, c.summary, strings.TrimSpace(c.about))
	for _, g := range s.groups {
		fmt.Fprintf(&b, "\n%s:\n", g.title)
		for _, name := range g.names {
			f := s.flags.Lookup(name)
			what, usage := flag.UnquoteUsage(f)
			head := "--" + name
			if what != "" && what != "value" {
				head += " " + what
			}
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
				usage += " (default " + f.DefValue + ")"
			}
			fmt.Fprintf(&b, "  %s\n%s", head, wrap(usage, "      ", 78))
		}
	}
	b.WriteString("\nExit codes: 0 well; 1 a promise broke, a connection failed, or nothing could be\nmeasured; 2 wrong settings.\n")
	return b.String()
}

// wrap breaks text into lines of at most width characters that begin with
// indent.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > width && line != indent {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}
