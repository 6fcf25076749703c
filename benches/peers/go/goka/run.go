package main

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"os"
	"strings"
	"sync/atomic"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"

	"peers/job"
)

// run is one run of a job.
type run struct {
	task     job.Task
	group    goka.Group
	watch    *job.Stopwatch
	acked    atomic.Int64
	finished chan job.Sample
}

func newRun(task job.Task) *run {
	goka.ReplaceGlobalConfig(config())
	return &run{
		task:     task,
		group:    goka.Group(fmt.Sprintf("goka-%s-%d", task.Input, os.Getpid())),
		watch:    job.NewStopwatch(),
		finished: make(chan job.Sample, 1),
	}
}

// config is goka's default ("sane defaults", says its README), except for what the job asks for. The only advice on
// throughput in its README and examples is not to wait for each message (EmitSync, in examples/9-defer-commit), and
// nothing here waits.
//
// The defaults are: the producer sends at 64 KiB or after 100 ms, the consumer fetches up to 1 MiB a partition and
// commits offsets once a second, ten messages wait in a partition's channel. Found by trying, in short runs on two
// cores: larger or immediate requests and longer channels make no difference beyond the runs' own spread.
func config() *sarama.Config {
	config := goka.DefaultConfig()
	// "In most cases, you need to modify the config, e.g. to set the Kafka Version", says the README. The default, 2.0,
	// is older than what Kafka 4 talks to.
	config.Version = sarama.V3_0_0_0
	// What the job asks for; the defaults are the newest offset, an ack of the leader, and snappy.
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = sarama.CompressionNone
	return config
}

// passThrough emits each message again. The output's partition is that of goka's hash of the key, which is not that of
// the input.
func passThrough(task job.Task) (job.Sample, error) {
	run := newRun(task)
	output := goka.Stream(task.Output)
	emit := func(ctx goka.Context, message any) {
		run.watch.Received()
		ctx.Emit(output, ctx.Key(), message)
	}
	group := goka.DefineGroup(
		run.group,
		goka.Input(goka.Stream(task.Input), new(codec.Bytes), emit),
		goka.Output(output, new(codec.Bytes)),
	)
	return run.process(group, func(*goka.Processor) error { return nil })
}

// process runs a processor until all messages are finished, then `check` while it still runs.
func (run *run) process(
	group *goka.GroupGraph,
	check func(*goka.Processor) error,
	options ...goka.ProcessorOption,
) (job.Sample, error) {
	options = append(options, goka.WithLogger(problems{}), goka.WithProducerBuilder(run.newProducer))
	processor, err := goka.NewProcessor(run.task.Brokers, group, options...)
	if err != nil {
		return job.Sample{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- processor.Run(ctx)
	}()
	select {
	case err := <-ended:
		return job.Sample{}, fmt.Errorf("the processor ended early: %v", err)
	case sample := <-run.finished:
		err := check(processor)
		cancel()
		return sample, errors.Join(err, <-ended)
	}
}

// producer counts the acks.
type producer struct {
	goka.Producer
	onAck func(*sarama.ProducerMessage, error)
}

func (run *run) newProducer(brokers []string, client string, hasher func() hash.Hash32) (goka.Producer, error) {
	inner, err := goka.DefaultProducerBuilder(brokers, client, hasher)
	return producer{inner, run.onAck}, err
}

// EmitWithHeaders is what goka calls for each message.
func (producer producer) EmitWithHeaders(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	return producer.Producer.EmitWithHeaders(topic, key, value, headers).ThenWithMessage(producer.onAck)
}

func (run *run) onAck(_ *sarama.ProducerMessage, err error) {
	if err == nil && run.acked.Add(1) == int64(run.task.Messages) {
		run.finished <- run.watch.Stop(run.task.Messages)
	}
}

// problems prints what goka logs of errors, and nothing else.
type problems struct{}

func (problems) Print(parts ...any)                 { tell(fmt.Sprint(parts...)) }
func (problems) Println(parts ...any)               { tell(fmt.Sprint(parts...)) }
func (problems) Printf(format string, parts ...any) { tell(fmt.Sprintf(format, parts...)) }

func tell(line string) {
	if strings.Contains(strings.ToLower(line), "error") {
		fmt.Fprintln(os.Stderr, line)
	}
}
