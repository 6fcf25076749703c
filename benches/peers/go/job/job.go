// Package job is what the programs in Go share: what the benchmark says to do, and what a run costs.
package job

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Task is what the benchmark says to do.
type Task struct {
	Brokers    []string
	Input      string
	Output     string
	Messages   int
	Partitions int
	Redis      string
	Prefix     string
	// State is a folder for what a program stores.
	State string
}

// Program is what one program can do.
type Program struct {
	// Jobs by name.
	Jobs map[string]func(Task) (Sample, error)
	// Modules that it is made of, and what they are called.
	Modules map[string]string
}

// Main is the program: `JOB NAME=VALUE…` does a job and prints a line of JSON; `versions` prints what the program is
// made of.
func (program Program) Main() {
	if len(os.Args) == 2 && os.Args[1] == "versions" {
		fmt.Println(program.versions())
		return
	}
	result, err := program.run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	line, err := json.Marshal(result)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Println(string(line))
}

func (program Program) run(arguments []string) (Sample, error) {
	if len(arguments) == 0 {
		return Sample{}, fmt.Errorf("no job")
	}
	do, ok := program.Jobs[arguments[0]]
	if !ok {
		return Sample{}, fmt.Errorf("there is no job %q", arguments[0])
	}
	task, err := parse(arguments[1:])
	if err != nil {
		return Sample{}, err
	}
	return do(task)
}

func parse(arguments []string) (Task, error) {
	var parsed Task
	numbers := map[string]*int{"messages": &parsed.Messages, "partitions": &parsed.Partitions}
	texts := map[string]*string{
		"input":  &parsed.Input,
		"output": &parsed.Output,
		"redis":  &parsed.Redis,
		"prefix": &parsed.Prefix,
		"state":  &parsed.State,
	}
	for _, argument := range arguments {
		name, value, _ := strings.Cut(argument, "=")
		if text, ok := texts[name]; ok {
			*text = value
		} else if number, ok := numbers[name]; ok {
			var err error
			if *number, err = strconv.Atoi(value); err != nil {
				return Task{}, fmt.Errorf("%s: %w", name, err)
			}
		} else if name == "brokers" {
			parsed.Brokers = strings.Split(value, ",")
		}
	}
	return parsed, nil
}

func (program Program) versions() string {
	parts := []string{strings.Replace(runtime.Version(), "go", "Go ", 1)}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if name, ok := program.Modules[module.Path]; ok {
				parts = append(parts, name+" "+strings.TrimPrefix(module.Version, "v"))
			}
		}
	}
	return strings.Join(parts, ", ")
}
