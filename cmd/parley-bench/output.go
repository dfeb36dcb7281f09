package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
)

// report is the JSON object of a run.
type report struct {
	Scenario    string            `json:"scenario"`
	Label       string            `json:"label,omitempty"`
	Started     time.Time         `json:"started"`
	OK          bool              `json:"ok"`
	Failures    []string          `json:"failures"`
	Interrupted bool              `json:"interrupted"`
	Result      result            `json:"result"` // null when nothing was measured
	Settings    map[string]string `json:"settings"`
	Machine     machine           `json:"machine"`
}

// machine is where the generator ran.
type machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

func newReport(scenario, label string, s *settings) *report {
	return &report{Scenario: scenario, Label: label, Started: time.Now().UTC().Truncate(time.Millisecond),
		Failures: []string{}, Settings: s.all(),
		Machine: machine{runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()}}
}

// finish fills in how the run ended.
func (r *report) finish(ctx context.Context, res result, err error) {
	r.Interrupted = ctx.Err() != nil
	if err != nil {
		r.Failures = append(r.Failures, err.Error())
	} else {
		r.Result = res
		r.Failures = append(r.Failures, res.Failures()...)
	}
	r.OK = len(r.Failures) == 0
}

// text is the report for people.
func (r *report) text() string {
	var t table
	if r.Result != nil {
		r.Result.table(&t)
	}
	if r.Interrupted {
		t.title("Interrupted: this is what was measured until then.")
	}
	if !r.OK {
		t.title("FAILED: %s", strings.Join(r.Failures, "\n        "))
	}
	return t.b.String()
}

// output is where the report goes.
type output struct {
	json         bool
	wantProgress *bool
	outFile      string
	ledgerFile   string
	label        string

	progress    *progress
	out, ledger *os.File // nil when not asked for
}

func outputSettings(s *settings, command string) *output {
	o := &output{}
	s.group("The report")
	s.boolean(&o.json, "json", "one JSON object on standard output instead of the table")
	s.text(&o.outFile, "out", "append the JSON object as a line to this `file` as well")
	if command == "direct" || command == "fanout" || command == "rooms" || command == "poll" {
		s.text(&o.ledgerFile, "ledger", "write all findings to this `file`, a JSON object a line after one with the totals")
	}
	s.text(&o.label, "label", "a `name` for the run in the JSON object")
	s.declare("progress", "a line a second on standard error; without this setting only on a terminal", true, func(v string) error {
		switch v {
		case "true", "false":
			o.wantProgress = new(v == "true")
			return nil
		}
		return errors.New("neither true nor false")
	}, func() string {
		if o.wantProgress == nil {
			return ""
		}
		return fmt.Sprint(*o.wantProgress)
	})
	return o
}

// open opens the files before the run, and returns what is wrong with them.
// What is in them stays until write.
func (o *output) open() (problems []string) {
	for _, f := range []struct {
		name, path string
		flags      int
		file       **os.File
	}{
		{"out", o.outFile, os.O_APPEND, &o.out},
		{"ledger", o.ledgerFile, 0, &o.ledger},
	} {
		if f.path == "" {
			continue
		}
		var err error
		if *f.file, err = os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|f.flags, 0o644); err != nil {
			problems = append(problems, fmt.Sprintf("--%s: %v", f.name, err))
		}
	}
	return problems
}

// close closes the files that write has not.
func (o *output) close() {
	for _, f := range []*os.File{o.out, o.ledger} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// write writes the report to all places. The errors join what failed.
func (o *output) write(out console, r *report) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var errs []error
	if o.json {
		_, err = fmt.Fprintf(out.stdout, "%s\n", line)
	} else {
		_, err = io.WriteString(out.stdout, r.text())
	}
	errs = append(errs, err)
	if o.json && !r.OK {
		fmt.Fprintf(out.stderr, "FAILED: %s\n", strings.Join(r.Failures, "; "))
	}
	if o.out != nil {
		_, err = fmt.Fprintf(o.out, "%s\n", line)
		errs = append(errs, err, o.out.Close())
	}
	if d, ok := r.Result.(accounted); ok && o.ledger != nil {
		totals, findings := d.account()
		errs = append(errs, o.ledger.Truncate(0), writeLedger(o.ledger, totals, findings), o.ledger.Close())
	}
	return errors.Join(errs...)
}

// accounted is a result with a ledger: its totals, and all findings.
type accounted interface {
	account() (totals any, findings iter.Seq[ledger.Finding])
}

// writeLedger writes the totals and all findings, a JSON object a line.
func writeLedger(w io.Writer, totals any, findings iter.Seq[ledger.Finding]) error {
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	err := encoder.Encode(totals)
	for f := range findings {
		if err != nil {
			break
		}
		err = encoder.Encode(f)
	}
	if err != nil {
		return err
	}
	return buffered.Flush()
}
