package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/drill"
	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

const (
	drillName    = "drill"
	drillSummary = "break a fleet under load, and tell whether its promises held"
)

const drillAbout = `
Usage:  parley-bench drill NAME [settings]      one drill
        parley-bench drill all [settings]       all of them, a table at the end
        parley-bench drill list                 their names, and when each passes

A drill starts what it needs on free ports of loopback: redis-server, Sentinels,
a Cluster, nginx, and the nodes; breaks something while clients write to each
other; and ends it all. The clients behave as the SDK does: they come back
elsewhere, resume their session with its token, drop what they have seen, and
note what they are told to have missed. Every message is in a ledger:

  lost silently   acknowledged, never delivered, and its receiver was not told.
                  No drill allows it.
  told as a gap   acknowledged, never delivered, and its receiver was told that
                  something may be missing there. Some drills allow it.
  sent again      what a receiver dropped, because it had seen its id.

With --target the drill breaks nothing by itself: --kill-cmd is run by sh once a
round, at the moment of the fault, and --heal-cmd when all clients are back.
Drills that need to know more than that of their fleet are refused.

Examples:
  parley-bench drill node-kill
  parley-bench drill all --quick --json
  parley-bench drill redis-failover --rounds 50 --seed 7
  parley-bench drill node-kill --target wss://relay.example --rounds 5 \
      --kill-cmd 'kubectl delete pod --grace-period=0 --force $(kubectl get pod -l app=parley -o name | shuf -n 1)'
`

// drillSettings are the settings of the subcommand.
type drillSettings struct {
	*settings
	opt    drill.Options
	seed   int
	json   bool
	ledger string
}

func newDrillSettings() *drillSettings {
	d := &drillSettings{settings: newSettings(drillName)}
	s, o := d.settings, &d.opt
	s.group("The drill")
	s.number(&d.seed, "seed", 0, 1<<31-1, "`number` that decides about who is hit when; 0: a new one, which the report names")
	s.number(&o.Rounds, "rounds", 0, 100_000, "`faults` one after the other; 0: the drill's own number")
	s.duration(&o.Duration, "duration", 0, "`time` of drills that do not go by rounds; 0: the drill's own")
	s.boolean(&o.Quick, "quick", "fewer rounds and shorter times than the rules want; the report says so")
	s.number(&o.Nodes, "nodes", 0, 50, "`nodes` of the fleet; 0: three")
	s.number(&o.Clients, "clients", 0, 100_000, "`clients`; 0: the drill's own number")
	s.rate(&o.Rate, "rate", "`messages` a second of all clients together; 0: the drill's own")
	s.text(&o.Parley, "parley", "the node's `program`; without it: beside this one, on the PATH, or built within the source tree")
	s.group("A fleet that runs already")
	s.list("target", "where it is, separated by commas: `host:port`, or ws, wss, http and https URLs", func() { o.Targets = nil }, func(item string) error {
		t, err := wsclient.ParseTarget(item, texto.Path)
		if err == nil {
			o.Targets = append(o.Targets, t)
		}
		return err
	}, func() string { return joined(o.Targets) })
	s.text(&o.KillCmd, "kill-cmd", "shell `command` that breaks something, run once a round")
	s.text(&o.HealCmd, "heal-cmd", "shell `command` that mends it, run at the end of a round")
	s.group("The report")
	s.boolean(&d.json, "json", "one JSON object a drill on standard output instead of the tables")
	s.text(&d.ledger, "ledger", "write all findings to this `file`: a JSON object with the totals, then one each, drill by drill")
	s.boolean(&o.Keep, "keep", "leave the logs of all processes, as after a failure")
	return d
}

// drillHelp is what `parley-bench drill --help` prints.
func drillHelp(s *settings) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(drillAbout) + "\n\nDrills:\n")
	for _, d := range drill.All {
		fmt.Fprintf(&b, "  %-16s %s\n", d.Name, d.Summary)
	}
	c := command{name: drillName, summary: drillSummary, about: b.String()}
	return c.help(s)
}

// runDrill is the subcommand.
func runDrill(ctx context.Context, args []string, out console) int {
	d := newDrillSettings()
	var drills []*drill.Drill
	switch {
	case len(args) == 0:
		d.problem("which drill? `parley-bench drill list` names them; all plays all")
	case strings.HasPrefix(args[0], "-"):
		if help := d.parse(args); help {
			fmt.Fprint(out.stdout, drillHelp(d.settings))
			return exitOK
		}
		d.problem("the drill's name comes before the settings: `parley-bench drill NAME %s`", strings.Join(args, " "))
	default:
		name := args[0]
		if help := d.parse(args[1:]); help || name == "help" {
			fmt.Fprint(out.stdout, drillHelp(d.settings))
			return exitOK
		}
		switch name {
		case "list":
			listDrills(out)
			return exitOK
		case "all":
			drills = drill.All
		default:
			if one := drill.Find(name); one != nil {
				drills = []*drill.Drill{one}
			} else {
				d.problem("there is no drill %q; `parley-bench drill list` names them", name)
			}
		}
	}
	ledgerFile := d.check(drills)
	if len(d.problems) > 0 {
		fmt.Fprintf(out.stderr, "parley-bench %s:\n", drillName)
		for _, p := range d.problems {
			fmt.Fprintf(out.stderr, "  %s\n", p)
		}
		fmt.Fprintf(out.stderr, "`parley-bench %s --help` explains the settings.\n", drillName)
		return exitUsage
	}
	if d.opt.Targets == nil {
		program, done, err := findParley(ctx, d.opt.Parley)
		if err != nil {
			fmt.Fprintf(out.stderr, "parley-bench %s: %v\n", drillName, err)
			return exitFailed
		}
		defer done()
		d.opt.Parley = program
	}
	if err := d.play(ctx, out, drills, ledgerFile); err != nil {
		fmt.Fprintf(out.stderr, "parley-bench %s: %v\n", drillName, err)
		return exitFailed
	}
	return exitOK
}

// check finishes the settings, notes what is wrong with them, and opens the
// ledger's file, nil without one.
func (d *drillSettings) check(drills []*drill.Drill) (ledgerFile *os.File) {
	if d.opt.Seed = uint64(d.seed); d.seed == 0 {
		d.opt.Seed = uint64(1 + rand.Int32N(1<<30))
	}
	switch {
	case d.opt.Targets == nil && (d.opt.KillCmd != "" || d.opt.HealCmd != ""):
		d.problem("--kill-cmd and --heal-cmd are for a fleet that runs already: --target says where it is")
	case d.opt.Targets != nil && d.opt.KillCmd == "":
		d.problem("--target needs --kill-cmd: the drill breaks nothing there by itself")
	}
	if d.opt.Targets != nil {
		for _, one := range drills {
			if !one.Target {
				d.problem("%s needs a fleet of its own: play it without --target", one.Name)
			}
		}
		for _, name := range []string{"parley", "nodes"} {
			if d.given(name) {
				d.problem("--%s has no meaning with --target: nothing is started there", name)
			}
		}
	}
	if d.ledger != "" && len(d.problems) == 0 {
		f, err := os.Create(d.ledger)
		if err != nil {
			d.problem("--ledger: %v", err)
		}
		return f
	}
	return nil
}

func listDrills(out console) {
	for i, d := range drill.All {
		if i > 0 {
			fmt.Fprintln(out.stdout)
		}
		fmt.Fprintf(out.stdout, "%s\n%s%s", d.Name, wrap(d.Summary, "  ", 78), wrap("passes when: "+d.Passes, "  ", 78))
		if d.Target {
			fmt.Fprint(out.stdout, "  also with --target\n")
		}
	}
}

// errDrills means that not all drills passed; the reports say why.
var errDrills = errors.New("not all drills passed")

// play plays drills one after the other and writes their reports.
func (d *drillSettings) play(ctx context.Context, out console, drills []*drill.Drill, ledgerFile *os.File) error {
	show := newProgress(out, new(true))
	defer show.end()
	start := time.Now()
	var reports []*drill.Report
	for i, one := range drills {
		d.opt.Progress = func(text string) {
			if len(drills) > 1 {
				text = fmt.Sprintf("[%d of %d, %s in all] %s", i+1, len(drills), time.Since(start).Round(time.Second), text)
			}
			show.line(text)
		}
		r := one.Play(ctx, d.opt)
		show.end()
		reports = append(reports, r)
		if err := d.write(out, r, ledgerFile); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if ledgerFile != nil {
		if err := ledgerFile.Close(); err != nil {
			return err
		}
	}
	if len(drills) > 1 && !d.json {
		fmt.Fprint(out.stdout, drillTable(reports))
	}
	for _, r := range reports {
		if !r.OK {
			return errDrills
		}
	}
	if len(reports) < len(drills) {
		return ctx.Err()
	}
	return nil
}

// write writes one report.
func (d *drillSettings) write(out console, r *drill.Report, ledgerFile *os.File) error {
	if d.json {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(out.stdout, "%s\n", line)
	} else {
		fmt.Fprint(out.stdout, drillText(r))
	}
	if ledgerFile == nil || r.Ledger() == nil {
		return nil
	}
	b := bufio.NewWriter(ledgerFile)
	if err := writeLedger(b, r.Ledger().Totals(), r.Account); err != nil {
		return err
	}
	return b.Flush()
}

// verdict is a report's result in a word.
func verdict(r *drill.Report) string {
	switch {
	case r.Interrupted:
		return "INTERRUPTED"
	case r.OK && r.Quick:
		return "PASS (quick: fewer rounds than the rule wants)"
	case r.OK:
		return "PASS"
	}
	return "FAIL"
}

// drillText is a report for people.
func drillText(r *drill.Report) string {
	var t table
	t.title("%s: %s", r.Drill, verdict(r))
	t.b.WriteString(wrap("passes when: "+r.Passes, "  ", 100))
	t.row("seed, rounds, time", "%d, %d, %.0f s", r.Seed, r.Rounds, r.Seconds)
	m := r.Messages
	t.row("sent", "%s", count(m.Sent))
	t.row("acknowledged", "%s", count(m.Acknowledged))
	t.row("refused", "%s", count(m.Refused))
	for _, code := range m.Codes() {
		t.row("  with "+code, "%s", count(m.RefusedBy[code]))
	}
	t.row("unanswered", "%s", count(m.Unanswered))
	t.row("delivered", "%s", count(m.Delivered))
	t.row("delivered twice", "%s", count(m.Duplicated))
	t.row("sent again and dropped", "%s", count(m.SentAgain))
	t.row("out of order", "%s", count(m.Reordered))
	t.row("told as a gap", "%s", count(m.Told))
	t.row("lost silently", "%s", count(m.Lost))
	c := r.Clients
	t.row("clients that came back", "%d recovered, %d told of a gap, %d under a new address; %d gaps told while connected",
		c.Recovered, c.NotRecovered, c.Fresh, c.Gaps)
	if len(c.Ended) > 0 {
		t.row("connections that ended", "%s", load.Counted(c.Ended))
	}
	if len(c.Refused) > 0 {
		t.row("attempts that were refused", "%s", load.Counted(c.Refused))
	}
	times := func(name string, q *drill.Times) {
		if q != nil {
			d := func(ms float64) string { return load.Round(time.Duration(ms * float64(time.Millisecond))) }
			t.row(name, "p50 %s  p99 %s  max %s   (%d)", d(q.P50), d(q.P99), d(q.Max), q.Count)
		}
	}
	times("answered after", r.Answer)
	times("reconnected after", r.Reconnect)
	times("service back after", r.Back)
	times("  for every pair", r.AllBack)
	for _, c := range r.Checks {
		switch {
		case c.Limit == "":
			t.line("    - %s: %s", c.What, c.Got)
		case c.OK:
			t.line("   ok %s: %s (%s)", c.What, c.Got, c.Limit)
		default:
			t.line("  BAD %s: %s, want %s", c.What, c.Got, c.Limit)
		}
	}
	for _, f := range r.Findings {
		t.line("  %s", f)
	}
	if more := r.Found - len(r.Findings); more > 0 {
		t.line("  and %s more; --ledger FILE lists all", count(uint64(more)))
	}
	if len(r.Failures) > 0 {
		t.line("  FAILED: %s", strings.Join(r.Failures, "\n          "))
	}
	if r.Logs != "" {
		t.line("  logs: %s", r.Logs)
	}
	t.line("")
	return t.b.String()
}

// drillTable is the end of a run of several drills.
func drillTable(reports []*drill.Report) string {
	var t table
	t.line("%-16s %9s %9s %7s %7s %9s %9s %11s %7s  %s", "drill", "acked", "delivered", "silent", "told", "back p50", "back max", "reconn. p99", "time", "")
	ms := func(q *drill.Times, pick func(*drill.Times) float64) string {
		if q == nil {
			return "-"
		}
		return load.Round(time.Duration(pick(q) * float64(time.Millisecond)))
	}
	for _, r := range reports {
		m := r.Messages
		t.line("%-16s %9s %9s %7s %7s %9s %9s %11s %6.0fs  %s", r.Drill, count(m.Acknowledged), count(m.Delivered), count(m.Lost), count(m.Told),
			ms(r.Back, func(q *drill.Times) float64 { return q.P50 }), ms(r.Back, func(q *drill.Times) float64 { return q.Max }),
			ms(r.Reconnect, func(q *drill.Times) float64 { return q.P99 }), r.Seconds, verdict(r))
	}
	return t.b.String()
}
