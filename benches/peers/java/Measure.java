import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/** What a run costs: time, CPU, memory of this process. */
final class Measure {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private Measure() {}

    /** A moment, and the CPU time that the process had used then: all its threads, user and system. */
    record Mark(long nanos, long cpuNanos) {
        static Mark now() {
            return new Mark(System.nanoTime(), SYSTEM.getProcessCpuTime());
        }
    }

    /** What `Sample` is in `benches/common/measure.rs`. */
    record Sample(long messages, Mark start, Mark first, Mark last) {
        String json() throws IOException {
            return String.format(
                    Locale.ROOT,
                    "{\"messages\":%d,\"seconds\":%f,\"seconds_from_start\":%f,\"seconds_to_return\":0,"
                            + "\"cpu_seconds\":%f,\"rss_mb\":%f}",
                    messages,
                    (last.nanos - first.nanos) / 1e9,
                    (last.nanos - start.nanos) / 1e9,
                    (last.cpuNanos - first.cpuNanos) / 1e9,
                    peakMb());
        }
    }

    /** The most memory that the process has had resident, in MB; 0 if the system does not tell. */
    private static double peakMb() throws IOException {
        Path status = Path.of("/proc/self/status");
        if (!Files.exists(status)) {
            return 0;
        }
        for (String line : Files.readAllLines(status)) {
            if (line.startsWith("VmHWM:")) {
                return Double.parseDouble(line.replaceAll("[^0-9]", "")) * 1024 / 1e6;
            }
        }
        return 0;
    }
}
