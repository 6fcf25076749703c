package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"

	"peers/job"
)

const (
	// batchRecords is the most messages that are taken for one round trip: as many as the other loops take.
	batchRecords = 10_000
	// commandKeys is the most keys of one command, as in the other loops: while Redis reads one command, the
	// next is on its way.
	commandKeys = 1_000
)

// count counts messages by their keys: per batch, the counts of the keys in it are read, added to and written, and
// the batch is marked for the next commit.
func count(task job.Task) (job.Sample, error) {
	watch := job.NewStopwatch()
	client, err := newClient(task, kgo.AutoCommitMarks())
	if err != nil {
		return job.Sample{}, err
	}
	defer client.Close()
	server := redis.NewClient(&redis.Options{Addr: task.Redis})
	defer server.Close()
	received := 0
	for received < task.Messages {
		fetches := client.PollRecords(context.Background(), batchRecords)
		if err := fetches.Err(); err != nil {
			return job.Sample{}, err
		}
		watch.Received()
		found := make(map[string]int)
		fetches.EachRecord(func(record *kgo.Record) {
			found[string(record.Key)]++
		})
		if err := add(server, task.Prefix, found); err != nil {
			return job.Sample{}, err
		}
		received += fetches.NumRecords()
		markDone(client, fetches)
	}
	result := watch.Stop(received)
	return result, client.CommitMarkedOffsets(context.Background())
}

// add adds the counts found to those in Redis.
func add(server *redis.Client, prefix string, found map[string]int) error {
	keys := make([]string, 0, len(found))
	counts := make([]int, 0, len(found))
	for key, count := range found {
		keys = append(keys, prefix+"/"+key)
		counts = append(counts, count)
	}
	ctx := context.Background()
	reads := server.Pipeline()
	var answers []*redis.SliceCmd
	for begin := 0; begin < len(keys); begin += commandKeys {
		end := min(begin+commandKeys, len(keys))
		answers = append(answers, reads.MGet(ctx, keys[begin:end]...))
	}
	if _, err := reads.Exec(ctx); err != nil {
		return err
	}
	writes := server.Pipeline()
	for number, answer := range answers {
		begin := number * commandKeys
		changes := make([]any, 0, 2*len(answer.Val()))
		for index, stored := range answer.Val() {
			before, err := parseCount(stored)
			if err != nil {
				return err
			}
			changes = append(changes, keys[begin+index], document(before+counts[begin+index]))
		}
		writes.MSet(ctx, changes...)
	}
	_, err := writes.Exec(ctx)
	return err
}

// parseCount reads what document makes; nothing stored is 0.
func parseCount(stored any) (int, error) {
	text, ok := stored.(string)
	if !ok {
		return 0, nil
	}
	digits, ok := strings.CutPrefix(text, `{"count":`)
	if !ok {
		return 0, fmt.Errorf("%q is not a count", text)
	}
	return strconv.Atoi(strings.TrimSuffix(digits, "}"))
}

func document(count int) string {
	return `{"count":` + strconv.Itoa(count) + "}"
}
