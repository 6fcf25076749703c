package job

import (
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
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

// Sample is what `Sample` is in `benches/common/measure.rs`.
type Sample struct {
	Messages         int     `json:"messages"`
	Seconds          float64 `json:"seconds"`
	SecondsFromStart float64 `json:"seconds_from_start"`
	SecondsToReturn  float64 `json:"seconds_to_return"`
	CPUSeconds       float64 `json:"cpu_seconds"`
	RssMb            float64 `json:"rss_mb"`
}

// Stopwatch runs from the first message received to the last one finished.
type Stopwatch struct {
	start mark
	began sync.Once
	first mark
}

// NewStopwatch is a stopwatch of a run that starts now.
func NewStopwatch() *Stopwatch {
	return &Stopwatch{start: now()}
}

// Received is to be called whenever messages are received, by any goroutine; only the first call counts.
func (watch *Stopwatch) Received() {
	watch.began.Do(func() { watch.first = now() })
}

// Stop is to be called when the last message is finished.
func (watch *Stopwatch) Stop(messages int) Sample {
	end := now()
	watch.began.Do(func() { watch.first = end })
	return Sample{
		Messages:         messages,
		Seconds:          end.at.Sub(watch.first.at).Seconds(),
		SecondsFromStart: end.at.Sub(watch.start.at).Seconds(),
		CPUSeconds:       (end.cpu - watch.first.cpu).Seconds(),
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
