// The jobs of `cargo xtask bench peers` with goka: a processor that emits, and one with a group table. None
// of its jobs only reads: goka's processors are made to emit or to keep a table.
//
// Measured are time and CPU time of this process, from the first message that a callback receives to the last one
// finished, and the process's peak memory until then. A message is finished when the broker has acked what was made
// from it: the emitted message, or the new count in the changelog. LevelDB has that count before it is produced.
//
// Not measured are joining the group, creating and recovering the table (which is empty), the last commit of offsets,
// closing LevelDB, checking the counts, and what the broker uses. A producer around goka's own counts the acks, which
// adds a callback to each message's promise.
//
// Unlike the others, the producer is not idempotent, as goka's default: with five requests in flight and ten retries,
// a retry can duplicate or reorder messages. goka commits the greatest offset of a partition that is finished, even
// while an earlier message is not acked.
package main

import "peers/job"

func main() {
	job.Program{
		Jobs: map[string]func(job.Task) (job.Sample, error){
			"pass-through": passThrough,
			"count":        count,
		},
		Modules: map[string]string{
			"github.com/lovoo/goka":       "goka",
			"github.com/IBM/sarama":       "sarama",
			"github.com/syndtr/goleveldb": "goleveldb",
		},
	}.Main()
}
