// Parley-bench loads a fleet of nodes, with directed messages, a chat room or relay
// rooms, and tells what it did with them: how fast, at what cost, and whether every
// message that was acknowledged arrived once and in order. With the subcommand drill it
// breaks a fleet on purpose. `parley-bench help` explains it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // a promise broke, a connection failed, or nothing could be measured
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the run with its report, a second one at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], console{stdout: os.Stdout, stderr: os.Stderr, terminal: isTerminal(os.Stderr)}))
}

// console is where a command writes.
type console struct {
	stdout, stderr io.Writer
	terminal       bool // stderr is one
}

// command is a subcommand. setup declares its settings and returns what runs
// it; that is called after the settings were read and found right.
type command struct {
	name    string
	summary string // one line
	about   string // what it does and how to read its report
	setup   func(*settings) scenario
}

// commands are the subcommands in the order of the help.
var commands = []command{directCommand, fanoutCommand, roomsCommand, pollCommand, idleCommand, connectCommand}

func run(ctx context.Context, args []string, out console) int {
	if len(args) == 0 {
		fmt.Fprint(out.stderr, overview())
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) == 0 {
			fmt.Fprint(out.stdout, overview())
			return exitOK
		}
		name, args = args[0], []string{"--help"}
	}
	if name == drillName {
		return runDrill(ctx, args, out)
	}
	for _, c := range commands {
		if c.name == name {
			return c.run(ctx, args, out)
		}
	}
	fmt.Fprintf(out.stderr, "parley-bench: there is no subcommand %q; `parley-bench help` lists them\n", name)
	return exitUsage
}

func (c command) run(ctx context.Context, args []string, out console) int {
	s := newSettings(c.name)
	scenario := c.setup(s)
	output := outputSettings(s, c.name)
	if help := s.parse(args); help {
		fmt.Fprint(out.stdout, c.help(s))
		return exitOK
	}
	output.progress = newProgress(out, output.wantProgress)
	r, problems := scenario.prepare(output.progress.line)
	s.problems = append(s.problems, problems...)
	s.problems = append(s.problems, output.open()...)
	defer output.close()
	if len(s.problems) > 0 {
		fmt.Fprintf(out.stderr, "parley-bench %s:\n", c.name)
		for _, p := range s.problems {
			fmt.Fprintf(out.stderr, "  %s\n", p)
		}
		fmt.Fprintf(out.stderr, "`parley-bench %s --help` explains the settings.\n", c.name)
		return exitUsage
	}
	report := newReport(c.name, output.label, s)
	result, err := r.run(ctx)
	output.progress.end()
	report.finish(ctx, result, err)
	if err := output.write(out, report); err != nil {
		fmt.Fprintf(out.stderr, "parley-bench: %v\n", err)
		return exitFailed
	}
	if !report.OK {
		return exitFailed
	}
	return exitOK
}
