package main

import (
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mark is a moment, and the CPU time that the process had used then: user and system.
type mark struct {
	at  time.Time
	cpu time.Duration
}

func now() mark {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return mark{at: time.Now(), cpu: cpu}
}

// sample is what `Sample` is in `benches/common/measure.rs`.
type sample struct {
	Messages         int     `json:"messages"`
	Seconds          float64 `json:"seconds"`
	SecondsFromStart float64 `json:"seconds_from_start"`
	SecondsToReturn  float64 `json:"seconds_to_return"`
	CPUSeconds       float64 `json:"cpu_seconds"`
	RssMb            float64 `json:"rss_mb"`
}

// stopwatch runs from the first message received to the last one finished.
type stopwatch struct {
	start mark
	first *mark
}

func newStopwatch() *stopwatch {
	return &stopwatch{start: now()}
}

// received is to be called with every poll; only the first counts.
func (watch *stopwatch) received() {
	if watch.first == nil {
		first := now()
		watch.first = &first
	}
}

func (watch *stopwatch) stop(messages int) sample {
	end := now()
	first := end
	if watch.first != nil {
		first = *watch.first
	}
	return sample{
		Messages:         messages,
		Seconds:          end.at.Sub(first.at).Seconds(),
		SecondsFromStart: end.at.Sub(watch.start.at).Seconds(),
		CPUSeconds:       (end.cpu - first.cpu).Seconds(),
		RssMb:            peakMb(),
	}
}

// peakMb is the most memory that the process has had resident, in MB; 0 if the system does not tell.
func peakMb() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err == nil {
				return math.Round(kib*1024/1e4) / 100
			}
		}
	}
	return 0
}
