package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"

	"peers/job"
)

// count counts messages by their keys in the group's table: for each partition a LevelDB, opened as goka does by
// default, and a changelog topic. For each message, goka reads the count from LevelDB, writes the new one there,
// produces it to the changelog, and writes the changelog's offset to LevelDB after the ack.
func count(task job.Task) (sample job.Sample, err error) {
	run := newRun(task)
	state := filepath.Join(task.State, string(run.group))
	defer func() {
		err = errors.Join(err, run.removeTable(), os.RemoveAll(state))
	}()
	add := func(ctx goka.Context, _ any) {
		run.watch.Received()
		before, _ := ctx.Value().(int64)
		ctx.SetValue(before + 1)
	}
	group := goka.DefineGroup(
		run.group,
		goka.Input(goka.Stream(task.Input), new(codec.Bytes), add),
		goka.Persist(new(codec.Int64)),
	)
	return run.process(
		group,
		run.checkCounts,
		goka.WithStorageBuilder(storage.DefaultBuilder(state)),
		goka.WithTopicManagerBuilder(newTopicManager),
		goka.WithHasher(newKeyHash),
	)
}

// newTopicManager creates the table's topic, compacted, with as many partitions as the input has.
func newTopicManager(brokers []string) (goka.TopicManager, error) {
	topics := goka.NewTopicManagerConfig()
	// The broker's default, as for the other topics. goka's default, 2, needs two brokers.
	topics.Table.Replication = -1
	return goka.TopicManagerBuilderWithTopicManagerConfig(topics)(brokers)
}

// checkCounts adds up the counts twice: in the changelog, by a view of it, and in LevelDB.
func (run *run) checkCounts(processor *goka.Processor) error {
	view, err := goka.NewView(
		run.task.Brokers,
		goka.GroupTable(run.group),
		new(codec.Int64),
		goka.WithViewStorageBuilder(storage.MemoryBuilder()),
		goka.WithViewLogger(problems{}),
	)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- view.Run(ctx)
	}()
	select {
	case err := <-ended:
		cancel()
		return fmt.Errorf("the view ended early: %v", err)
	case <-view.WaitRunning():
		err := run.compare(view, processor)
		cancel()
		return errors.Join(err, <-ended)
	}
}

func (run *run) compare(view *goka.View, processor *goka.Processor) error {
	counts, err := view.Iterator()
	if err != nil {
		return err
	}
	defer counts.Release()
	var logged, stored int64
	for counts.Next() {
		inChangelog, err := counts.Value()
		if err != nil {
			return err
		}
		inStorage, err := processor.Get(counts.Key())
		if err != nil {
			return err
		}
		// What is missing is 0.
		count, _ := inChangelog.(int64)
		logged += count
		count, _ = inStorage.(int64)
		stored += count
	}
	if expected := int64(run.task.Messages); logged != expected || stored != expected {
		return fmt.Errorf("counted %d in the changelog and %d in LevelDB instead of %d", logged, stored, expected)
	}
	return counts.Err()
}

func (run *run) removeTable() error {
	admin, err := sarama.NewClusterAdmin(run.task.Brokers, config())
	if err != nil {
		return err
	}
	defer admin.Close()
	err = admin.DeleteTopic(string(goka.GroupTable(run.group)))
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil
	}
	return err
}

// keyHash maps a key, `count-PARTITION-NUMBER`, to the partition that it names. goka requires that the input is
// partitioned by its hasher, because that also chooses the changelog's partition. The benchmark does not partition its
// input as goka's default hasher, FNV-1a, would.
type keyHash uint32

func newKeyHash() hash.Hash32 {
	return new(keyHash)
}

func (sum *keyHash) Write(key []byte) (int, error) {
	rest, _ := bytes.CutPrefix(key, []byte("count-"))
	digits, _, found := bytes.Cut(rest, []byte("-"))
	partition, err := strconv.ParseUint(string(digits), 10, 31)
	if err != nil || !found {
		return 0, fmt.Errorf("key %q has no partition", key)
	}
	*sum = keyHash(partition)
	return len(key), nil
}

func (sum *keyHash) Sum32() uint32          { return uint32(*sum) }
func (sum *keyHash) Reset()                 { *sum = 0 }
func (sum *keyHash) Size() int              { return 4 }
func (sum *keyHash) BlockSize() int         { return 1 }
func (sum *keyHash) Sum(data []byte) []byte { return append(data, byte(*sum)) }
