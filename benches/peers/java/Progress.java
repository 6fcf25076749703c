import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;

/**
 * How far a pass is: from the first message received to the last one finished.
 *
 * <p>A job without a result has finished a message when it has read it. Another one when it has committed the
 * message's offset: under at_least_once, Kafka Streams does so after the outgoing messages are acknowledged and
 * the stores flushed.
 */
final class Progress {
    private final Peer.Task task;
    private final Measure.Mark start = Measure.Mark.now();
    private final AtomicInteger partitionsToRead;
    private final Map<TopicPartition, Long> committed = new ConcurrentHashMap<>();
    private final CountDownLatch done = new CountDownLatch(1);
    private volatile Measure.Mark first;
    private volatile Measure.Mark last;
    private volatile Throwable failure;

    Progress(Peer.Task task) {
        this.task = task;
        this.partitionsToRead = new AtomicInteger(task.partitions());
    }

    Measure.Sample await() throws InterruptedException {
        done.await();
        if (failure != null) {
            throw new IllegalStateException("Kafka Streams failed", failure);
        }
        return new Measure.Sample(task.messages(), start, first, last);
    }

    void fail(Throwable error) {
        failure = error;
        done.countDown();
    }

    private void begin() {
        synchronized (this) {
            if (first == null) {
                first = Measure.Mark.now();
            }
        }
    }

    private void partitionRead() {
        if (partitionsToRead.decrementAndGet() == 0 && task.job() == Peer.Job.CONSUME) {
            finish();
        }
    }

    private void committed(Map<TopicPartition, OffsetAndMetadata> offsets) {
        offsets.forEach((partition, next) -> committed.put(partition, next.offset()));
        long total = committed.values().stream().mapToLong(Long::longValue).sum();
        if (total == task.messages() && task.job() != Peer.Job.CONSUME) {
            finish();
        }
    }

    private void finish() {
        synchronized (this) {
            if (last == null) {
                last = Measure.Mark.now();
            }
        }
        done.countDown();
    }

    /**
     * Looks at every message: sums up the sizes, and asks for a commit behind a partition's last, which would
     * otherwise come up to a second later.
     */
    static final class Reader implements FixedKeyProcessor<byte[], byte[], byte[]> {
        private final Progress progress;
        private final long lastOffset;
        private FixedKeyProcessorContext<byte[], byte[]> context;
        private long bytes;

        Reader(Progress progress) {
            this.progress = progress;
            this.lastOffset = progress.task.perPartition() - 1;
        }

        @Override
        public void init(FixedKeyProcessorContext<byte[], byte[]> context) {
            this.context = context;
        }

        @Override
        public void process(FixedKeyRecord<byte[], byte[]> message) {
            if (progress.first == null) {
                progress.begin();
            }
            bytes += message.key().length + message.value().length;
            context.forward(message);
            if (context.recordMetadata().orElseThrow().offset() == lastOffset) {
                if (bytes == 0) {
                    throw new IllegalStateException("empty messages");
                }
                progress.partitionRead();
                context.commit();
            }
        }
    }

    /** Tells of commits. */
    public static final class Commits implements ConsumerInterceptor<byte[], byte[]> {
        /** The setting that holds the {@link Progress}. */
        static final String PROGRESS = "peer.progress";

        private Progress progress;

        @Override
        public void configure(Map<String, ?> settings) {
            progress = (Progress) settings.get(PROGRESS);
        }

        @Override
        public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
            return records;
        }

        @Override
        public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {
            progress.committed(offsets);
        }

        @Override
        public void close() {}
    }
}
