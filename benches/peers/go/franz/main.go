// The jobs of `cargo xtask bench peers` with franz-go, and with go-redis for the counts.
package main

import "peers/job"

func main() {
	job.Program{
		Jobs: map[string]func(job.Task) (job.Sample, error){
			"consume":      consume,
			"pass-through": passThrough,
			"count":        count,
		},
		Modules: map[string]string{
			"github.com/twmb/franz-go":     "franz-go",
			"github.com/redis/go-redis/v9": "go-redis",
		},
	}.Main()
}
