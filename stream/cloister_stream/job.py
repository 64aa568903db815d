"""The job: `flink run --python job.py SETTINGS`; `cloister-stream submit` says the rest of that line.

    files ─ lines ─ asked, so many at once ─┬─ results-*.jsonl
                                            └─ failures-*.jsonl

Flink keeps in each checkpoint how far the files have been read and which output is written, and renames output into
place with the checkpoint after it. So a line that was read is in the output once, whatever is killed; that a request
was sent twice is nobody's harm, since an inference changes nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from pyflink.common import Configuration, Encoder, Time, Types, WatermarkStrategy
from pyflink.datastream import AsyncDataStream, DataStream, OutputTag, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import (
    BucketAssigner,
    FileSink,
    FileSource,
    OutputFileConfig,
    RollingPolicy,
    StreamFormat,
)

from cloister_stream.files import header_of
from cloister_stream.functions import Ask, Part
from cloister_stream.settings import Settings

NO_TIMEOUT: Final = Time.milliseconds(0)
"""Of Flink's, which would start a thread for each record; the SDK keeps the deadline."""


def main() -> None:
    """Build the job that the settings file describes, and hand it to the cluster."""
    settings = Settings.read(Path(sys.argv[1]))
    environment = StreamExecutionEnvironment.get_execution_environment(configuration(settings))
    build(environment, settings, header_of(settings.input))
    environment.execute(settings.job_name)


def configuration(settings: Settings) -> Configuration:
    """What the job wants of Flink."""
    # All that is under way ends before a checkpoint, and a record may take its whole deadline for it.
    patience_s = settings.deadline_s + 60
    configured = Configuration()
    for key, value in {
        "execution.runtime-mode": "STREAMING",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": f"{settings.checkpoint_s * 1000:.0f} ms",
        "execution.checkpointing.timeout": f"{patience_s:.0f} s",
        "execution.checkpointing.tolerable-failed-checkpoints": "3",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.dir": settings.checkpoints.as_uri(),
        "parallelism.default": str(settings.parallelism),
        "python.fn-execution.bundle.size": str(max(1000, 100 * settings.in_flight)),
        "python.fn-execution.bundle.time": "1000",
    }.items():
        configured.set_string(key, value)
    return configured


def build(environment: StreamExecutionEnvironment, settings: Settings, header: str | None) -> None:
    """Put the job together; each part that has state has a name that a later version finds it by."""
    source = FileSource.for_record_stream_format(StreamFormat.text_line_format(), settings.input.as_uri())
    lines = environment.from_source(
        source.process_static_file_set().build(), WatermarkStrategy.no_watermarks(), "records", Types.STRING()
    ).uid("records")
    asked = AsyncDataStream.unordered_wait(
        lines,
        Ask(settings, header),
        NO_TIMEOUT,
        settings.in_flight,
        Types.TUPLE([Types.STRING(), Types.STRING()]),
    ).uid("ask")
    failures = OutputTag("failures", Types.STRING())
    parted = asked.process(Part(failures), Types.STRING()).uid("part")
    _write(parted, settings.output, "results")
    _write(parted.get_side_output(failures), settings.output, "failures")


def _write(stream: DataStream, folder: Path, name: str) -> None:
    sink = (
        FileSink.for_row_format(folder.as_uri(), Encoder.simple_string_encoder())
        .with_bucket_assigner(BucketAssigner.base_path_bucket_assigner())
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .with_output_file_config(OutputFileConfig(name, ".jsonl"))
        .build()
    )
    stream.sink_to(sink).name(name).uid(name)


if __name__ == "__main__":
    main()
