package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nodeProgram is the name of the node's program.
const nodeProgram = "parley"

// findParley returns the node's program: the one that was named, else that
// beside this program, else that on the PATH, else one built from the source
// tree that holds the working directory. done removes what was built.
func findParley(ctx context.Context, named string) (program string, done func(), err error) {
	done = func() {}
	if named != "" {
		program, err = exec.LookPath(named)
		if err != nil {
			return "", done, fmt.Errorf("--parley: %w", err)
		}
		program, err = filepath.Abs(program)
		return program, done, err
	}
	if self, err := os.Executable(); err == nil {
		if program, err = exec.LookPath(filepath.Join(filepath.Dir(self), nodeProgram)); err == nil {
			return program, done, nil
		}
	}
	if program, err = exec.LookPath(nodeProgram); err == nil {
		return program, done, nil
	}
	source, err := sourceTree()
	if err != nil {
		return "", done, err
	}
	dir, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return "", done, err
	}
	done = func() { _ = os.RemoveAll(dir) } // what is left of it is the system's to clear
	program = filepath.Join(dir, nodeProgram)
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/parley")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		done()
		return "", func() {}, fmt.Errorf("building the node in %s: %w: %s", source, err, out)
	}
	return program, done, nil
}

// errNoParley says where a node's program was looked for.
var errNoParley = errors.New("there is no parley beside this program nor on the PATH, and the working directory is not in its source tree: --parley names one")

// sourceTree returns the directory of the module, at or above the working
// directory.
func sourceTree() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
			if line, _, _ := strings.Cut(string(text), "\n"); strings.TrimSpace(line) == "module parley" {
				return dir, nil
			}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errNoParley
		}
		dir = up
	}
}
