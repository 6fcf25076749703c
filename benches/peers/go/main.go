// The jobs of `cargo xtask bench peers` with franz-go, and with go-redis for the counts.
//
// `franz-go JOB NAME=VALUE…` does one and prints a line of JSON; `franz-go versions` prints what it is made of.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// task is what the benchmark says to do.
type task struct {
	brokers  []string
	input    string
	output   string
	messages int
	redis    string
	prefix   string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "versions" {
		fmt.Println(versions())
		return
	}
	result, err := run(os.Args[1:])
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

func run(arguments []string) (sample, error) {
	if len(arguments) == 0 {
		return sample{}, fmt.Errorf("no job")
	}
	task, err := parse(arguments[1:])
	if err != nil {
		return sample{}, err
	}
	switch job := arguments[0]; job {
	case "consume":
		return consume(task)
	case "pass-through":
		return passThrough(task)
	case "count":
		return count(task)
	default:
		return sample{}, fmt.Errorf("there is no job %q", job)
	}
}

func parse(arguments []string) (task, error) {
	var parsed task
	for _, argument := range arguments {
		name, value, _ := strings.Cut(argument, "=")
		switch name {
		case "brokers":
			parsed.brokers = strings.Split(value, ",")
		case "input":
			parsed.input = value
		case "output":
			parsed.output = value
		case "redis":
			parsed.redis = value
		case "prefix":
			parsed.prefix = value
		case "messages":
			messages, err := strconv.Atoi(value)
			if err != nil {
				return task{}, fmt.Errorf("messages: %w", err)
			}
			parsed.messages = messages
		}
	}
	return parsed, nil
}

func versions() string {
	names := map[string]string{
		"github.com/twmb/franz-go":     "franz-go",
		"github.com/redis/go-redis/v9": "go-redis",
	}
	parts := []string{strings.Replace(runtime.Version(), "go", "Go ", 1)}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if name, ok := names[module.Path]; ok {
				parts = append(parts, name+" "+strings.TrimPrefix(module.Version, "v"))
			}
		}
	}
	return strings.Join(parts, ", ")
}
