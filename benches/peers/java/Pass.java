import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/** A job done once, by an application of its own. */
final class Pass {
    /** Half of the partitions each. Found by trying, on two cores: one thread and four are slower. */
    private static final int THREADS = 2;

    private static final String STORE = "counts";

    private Pass() {}

    static Measure.Sample run(Peer.Task task, String label) throws Exception {
        String application = String.join("-", task.input(), label, Long.toString(ProcessHandle.current().pid()));
        Progress progress = new Progress(task);
        Properties settings = settings(task, application, progress);
        try (Admin admin = Admin.create(Map.of(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.brokers()))) {
            KafkaStreams streams = new KafkaStreams(topology(task, progress), settings);
            streams.setUncaughtExceptionHandler(
                    error -> {
                        progress.fail(error);
                        return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                    });
            try {
                // The first thread that joins the group gets everything and gives half of it away when the second
                // comes: that is over before messages are processed.
                streams.pause();
                streams.start();
                awaitAssignment(admin, application, task.partitions());
                streams.resume();
                Measure.Sample sample = progress.await();
                checkCounts(task, streams);
                return sample;
            } finally {
                streams.close();
                remove(admin, task, application, Path.of(settings.getProperty(StreamsConfig.STATE_DIR_CONFIG)));
            }
        }
    }

    /** What is not set here has the default of Kafka Streams. */
    private static Properties settings(Peer.Task task, String application, Progress progress) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.brokers());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, task.state() + "/" + application);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        // What the job asks for.
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "none");
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, THREADS);
        // Confluent's advice for throughput: batches of 100,000 to 200,000 bytes and a linger of 10 to 100 ms, of which
        // Kafka Streams has 100 by default.
        // https://docs.confluent.io/cloud/current/client-apps/optimizing/throughput.html
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 131_072);
        settings.put(
                StreamsConfig.mainConsumerPrefix(ConsumerConfig.INTERCEPTOR_CLASSES_CONFIG),
                Progress.Commits.class.getName());
        settings.put(StreamsConfig.mainConsumerPrefix(Progress.Commits.PROGRESS), progress);
        return settings;
    }

    private static Topology topology(Peer.Task task, Progress progress) {
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> messages =
                builder.<byte[], byte[]>stream(task.input()).processValues(() -> new Progress.Reader(progress));
        switch (task.job()) {
            case CONSUME -> {}
            case PASS_THROUGH -> messages.to(task.output());
            case COUNT -> messages.groupByKey()
                    .count(
                            Materialized.<byte[], Long, KeyValueStore<Bytes, byte[]>>as(STORE)
                                    .withKeySerde(Serdes.ByteArray())
                                    .withValueSerde(Serdes.Long()));
        }
        return builder.build();
    }

    private static void awaitAssignment(Admin admin, String application, int partitions) throws Exception {
        while (!isAssigned(admin, application, partitions)) {
            Thread.sleep(20);
        }
    }

    private static boolean isAssigned(Admin admin, String application, int partitions) throws Exception {
        try {
            ConsumerGroupDescription group =
                    admin.describeConsumerGroups(List.of(application)).describedGroups().get(application).get();
            long busy =
                    group.members().stream()
                            .filter(member -> member.assignment().topicPartitions().size() == partitions / THREADS)
                            .count();
            return group.groupState() == GroupState.STABLE && busy == THREADS;
        } catch (ExecutionException error) {
            // Nobody has joined yet.
            if (error.getCause() instanceof GroupIdNotFoundException) {
                return false;
            }
            throw error;
        }
    }

    private static void checkCounts(Peer.Task task, KafkaStreams streams) {
        if (task.job() != Peer.Job.COUNT) {
            return;
        }
        var type = QueryableStoreTypes.<byte[], Long>keyValueStore();
        long total = 0;
        try (var counts = streams.store(StoreQueryParameters.fromNameAndType(STORE, type)).all()) {
            while (counts.hasNext()) {
                total += counts.next().value;
            }
        }
        if (total != task.messages()) {
            throw new IllegalStateException(total + " messages were counted instead of " + task.messages());
        }
    }

    /** Removes what the application left: on the broker, and on the disk. */
    private static void remove(Admin admin, Peer.Task task, String application, Path state) throws Exception {
        if (task.job() == Peer.Job.COUNT) {
            admin.deleteTopics(List.of(application + "-" + STORE + "-changelog")).all().get();
        }
        if (Files.exists(state)) {
            try (Stream<Path> files = Files.walk(state)) {
                for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(file);
                }
            }
        }
    }
}
