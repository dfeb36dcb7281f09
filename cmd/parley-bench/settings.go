package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// settings are a subcommand's flags. A value that is wrong does not end the
// parsing: all problems are collected, so that they can be named at once.
type settings struct {
	flags    *flag.FlagSet
	groups   []group // for the help, in the order of declaration
	problems []string
}

// group is a part of the help.
type group struct {
	title string
	names []string
}

func newSettings(command string) *settings {
	s := &settings{flags: flag.NewFlagSet(command, flag.ContinueOnError)}
	s.flags.SetOutput(io.Discard)
	return s
}

// group starts a part of the help: what is declared next belongs to it.
func (s *settings) group(title string) { s.groups = append(s.groups, group{title: title}) }

// problem notes a wrong setting.
func (s *settings) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// value is a flag.Value whose Set never fails: it notes a problem.
type value struct {
	settings *settings
	name     string
	boolean  bool
	set      func(string) error
	text     func() string
}

func (v *value) String() string {
	if v.text == nil { // package flag asks a zero value
		return ""
	}
	return v.text()
}

func (v *value) Set(text string) error {
	if err := v.set(text); err != nil {
		v.settings.problem("--%s %s: %v", v.name, text, err)
	}
	return nil
}

// IsBoolFlag lets package flag take the flag without a value.
func (v *value) IsBoolFlag() bool { return v.boolean }

// declare adds a flag. A word in back quotes in usage names its value.
func (s *settings) declare(name, usage string, boolean bool, set func(string) error, text func() string) {
	s.flags.Var(&value{settings: s, name: name, boolean: boolean, set: set, text: text}, name, usage)
	last := &s.groups[len(s.groups)-1]
	last.names = append(last.names, name)
}

func (s *settings) text(p *string, name, usage string) {
	s.declare(name, usage, false,
		func(v string) error { *p = v; return nil },
		func() string { return *p })
}

// secret is a text that no report and no help shows.
func (s *settings) secret(p *string, name, usage string) {
	s.declare(name, usage, false,
		func(v string) error { *p = v; return nil },
		func() string {
			if *p == "" {
				return ""
			}
			return "(not shown)"
		})
}

func (s *settings) boolean(p *bool, name, usage string) {
	s.declare(name, usage, true, func(v string) (err error) {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("neither true nor false")
		}
		*p = b
		return nil
	}, func() string { return strconv.FormatBool(*p) })
}

func (s *settings) number(p *int, name string, least, most int, usage string) {
	s.declare(name, usage, false, func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("not a whole number from %d to %d", least, most)
		}
		*p = n
		return nil
	}, func() string { return strconv.Itoa(*p) })
}

func (s *settings) rate(p *float64, name, usage string) {
	s.declare(name, usage, false, func(v string) error {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || f < 0 || f > 1e8 || math.IsNaN(f) {
			return fmt.Errorf("not a number from 0 to 1e8")
		}
		*p = f
		return nil
	}, func() string { return strconv.FormatFloat(*p, 'g', -1, 64) })
}

func (s *settings) duration(p *time.Duration, name string, least time.Duration, usage string) {
	s.declare(name, usage, false, func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("not a duration such as 500ms, 10s or 5m")
		}
		if d < least {
			return fmt.Errorf("must be %v at least", least)
		}
		*p = d
		return nil
	}, func() string { return p.String() })
}

// list is a flag whose value is separated by commas; each item is read by one.
func (s *settings) list(name, usage string, reset func(), one func(string) error, text func() string) {
	s.declare(name, usage, false, func(v string) error {
		reset()
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			if err := one(item); err != nil {
				s.problem("--%s: %v", name, err)
			}
		}
		return nil
	}, text)
}

// parse reads the arguments, and returns true when they ask for help.
func (s *settings) parse(args []string) (help bool) {
	for len(args) > 0 {
		before := len(args)
		err := s.flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return true
		case err != nil: // an unknown flag, or one without its value
			text := strings.TrimPrefix(err.Error(), "flag provided but not defined: ")
			if text != err.Error() {
				text = fmt.Sprintf("there is no setting -%s", text)
			}
			s.problem("%s", text)
			args = s.flags.Args()
		case s.flags.NArg() > 0:
			s.problem("%q is not a setting", s.flags.Arg(0))
			args = s.flags.Args()[1:]
		default:
			return false
		}
		if len(args) >= before { // nothing was taken
			return false
		}
	}
	return false
}

// given tells whether the flag was on the command line.
func (s *settings) given(name string) (given bool) {
	s.flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// all returns the effective settings.
func (s *settings) all() map[string]string {
	all := map[string]string{}
	s.flags.VisitAll(func(f *flag.Flag) { all[f.Name] = f.Value.String() })
	return all
}
