package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"peers/job"
)

// newClient is a client that reads the input in a group of its own, and what `more` says.
//
// Everything else is the library's default: cooperative balancing, fetches of up to 1 MiB a partition, for the producer
// acks=all, idempotence, 10 ms of linger and batches of up to 1 MB. Default compression is snappy, so that is off.
func newClient(task job.Task, more ...kgo.Opt) (*kgo.Client, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(task.Brokers...),
		kgo.ConsumerGroup(fmt.Sprintf("franz-go-%s-%d", task.Input, os.Getpid())),
		kgo.ConsumeTopics(task.Input),
		kgo.AutoCommitInterval(time.Second),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
	return kgo.NewClient(append(options, more...)...)
}

// consume reads everything and sums up the sizes, committing what it has polled: the loop of the library's example
// `bench`, in a group.
func consume(task job.Task) (job.Sample, error) {
	watch := job.NewStopwatch()
	client, err := newClient(task)
	if err != nil {
		return job.Sample{}, err
	}
	defer client.Close()
	received, bytes := 0, 0
	for received < task.Messages {
		fetches := client.PollFetches(context.Background())
		if err := fetches.Err(); err != nil {
			return job.Sample{}, err
		}
		watch.Received()
		fetches.EachRecord(func(record *kgo.Record) {
			received++
			bytes += len(record.Key) + len(record.Value)
		})
	}
	result := watch.Stop(received)
	if bytes == 0 {
		return job.Sample{}, fmt.Errorf("empty messages")
	}
	return result, nil
}

// batch is what one poll returned, and the acks of what was produced from it.
type batch struct {
	fetches kgo.Fetches
	acks    *kgo.FirstErrPromise
}

// passThrough produces every message again. The next batch is polled and produced while earlier ones wait for their
// acks; a batch is marked for the next commit when all of it, and of those before it, is acked.
func passThrough(task job.Task) (job.Sample, error) {
	watch := job.NewStopwatch()
	// As many as the library's example `bench` has for messages of this size: the default of 50,000 is less than one poll
	// can bring.
	buffered := kgo.MaxBufferedRecords(250<<20/100 + 1)
	client, err := newClient(task, kgo.DefaultProduceTopic(task.Output), kgo.AutoCommitMarks(), buffered)
	if err != nil {
		return job.Sample{}, err
	}
	defer client.Close()
	if _, _, err := client.ProducerID(context.Background()); err != nil {
		return job.Sample{}, err
	}
	// Bounds what is in flight.
	flying := make(chan batch, 8)
	polled := make(chan error, 1)
	go func() {
		polled <- produceAll(client, task.Messages, watch, flying)
	}()
	acked := 0
	for batch := range flying {
		if err := batch.acks.Err(); err != nil {
			return job.Sample{}, err
		}
		acked += batch.fetches.NumRecords()
		markDone(client, batch.fetches)
	}
	if err := <-polled; err != nil {
		return job.Sample{}, err
	}
	result := watch.Stop(acked)
	return result, client.CommitMarkedOffsets(context.Background())
}

func produceAll(client *kgo.Client, messages int, watch *job.Stopwatch, flying chan<- batch) error {
	defer close(flying)
	for received := 0; received < messages; {
		fetches := client.PollFetches(context.Background())
		if err := fetches.Err(); err != nil {
			return err
		}
		watch.Received()
		count := fetches.NumRecords()
		received += count
		acks := new(kgo.FirstErrPromise)
		// One allocation for all of the batch.
		outgoing := make([]kgo.Record, 0, count)
		fetches.EachRecord(func(record *kgo.Record) {
			outgoing = append(outgoing, kgo.Record{
				Key:       record.Key,
				Value:     record.Value,
				Headers:   record.Headers,
				Timestamp: record.Timestamp,
			})
			client.Produce(context.Background(), &outgoing[len(outgoing)-1], acks.Promise())
		})
		flying <- batch{fetches, acks}
	}
	return nil
}

// markDone lets the next commit include these.
func markDone(client *kgo.Client, fetches kgo.Fetches) {
	fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
		if last := len(partition.Records) - 1; last >= 0 {
			client.MarkCommitRecords(partition.Records[last])
		}
	})
}
