import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.streams.KafkaStreams;
import org.rocksdb.RocksDB;

/**
 * The jobs of `cargo xtask bench peers` with Kafka Streams.
 *
 * <p>`Peer JOB NAME=VALUE…` does one and prints a line of JSON; `Peer versions` prints what it is made of.
 */
final class Peer {
    private Peer() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("versions")) {
            System.out.println(versions());
            return;
        }
        Task task = Task.parse(arguments);
        // Code runs in an interpreter at first and is compiled while it runs, which takes seconds. A service does that
        // once, so the last pass is the one that counts.
        for (int number = 1; number <= task.warmUps(); number++) {
            Pass.run(task, "warm-up-" + number);
        }
        System.out.println(Pass.run(task, "measured").json());
        System.exit(0);
    }

    private static String versions() throws IOException {
        Properties streams = new Properties();
        try (InputStream resource = KafkaStreams.class.getResourceAsStream("/kafka/kafka-streams-version.properties")) {
            streams.load(resource);
        }
        RocksDB.loadLibrary();
        return String.format(
                "Kafka Streams %s, RocksDB %s, Java %s",
                streams.getProperty("version"), RocksDB.rocksdbVersion(), System.getProperty("java.version"));
    }

    enum Job {
        CONSUME,
        PASS_THROUGH,
        COUNT;

        static Job named(String name) {
            return valueOf(name.toUpperCase().replace('-', '_'));
        }
    }

    /** What the benchmark says to do. Each partition has as many messages as the others. */
    record Task(
            Job job,
            String brokers,
            String input,
            String output,
            long messages,
            int partitions,
            int warmUps,
            String state) {

        static Task parse(String[] arguments) {
            Map<String, String> named =
                    Arrays.stream(arguments)
                            .skip(1)
                            .map(argument -> argument.split("=", 2))
                            .collect(Collectors.toMap(pair -> pair[0], pair -> pair[1]));
            Function<String, String> value = name -> named.getOrDefault(name, "");
            return new Task(
                    Job.named(arguments[0]),
                    value.apply("brokers"),
                    value.apply("input"),
                    value.apply("output"),
                    Long.parseLong(value.apply("messages")),
                    Integer.parseInt(value.apply("partitions")),
                    Integer.parseInt(value.apply("warm_ups")),
                    value.apply("state"));
        }

        long perPartition() {
            return messages / partitions;
        }
    }
}
