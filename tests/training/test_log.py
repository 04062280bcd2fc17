import json
import logging
import struct

import pytest
from small_disk import fill, small_disk
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from vgg_jax import InputError
from vgg_jax.training.log import StageLog, read_log


def events(folder):
    """(framing as TensorFlow's record reader needs it, event) of each record of the only file, times left out."""
    (file,) = folder.glob("events.out.tfevents.*")
    content, found = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        event.ClearField("wall_time")
        found.append((content[:12], event))
        content = content[16 + length :]
    return found


def test_the_events_are_those_of_another_writer(tmp_path):
    with SummaryWriter(str(tmp_path / "theirs"), purge_step=3) as theirs, StageLog(tmp_path, 2) as ours:
        for step in (3, 4):
            ours.write(step, train_loss=0.5 / step, learning_rate=1e-2)
            theirs.add_scalar("train_loss", 0.5 / step, step)
            theirs.add_scalar("learning_rate", 1e-2, step)
    ours, theirs = events(tmp_path / "tensorboard"), events(tmp_path / "theirs")
    assert ours[-4:] == theirs[-4:]
    for written in (ours, theirs):
        opening = [event for _, event in written[:-4]]
        assert opening[0].file_version == "brain.Event:2"
        assert [e.step for e in opening if e.session_log.status == SessionLog.START] == [3]


def test_records_can_be_read_by_their_checksums(tmp_path):
    """CRC-32C of the record format, computed bit by bit."""
    with StageLog(tmp_path, 0) as log:
        log.write(1, loss=2.0)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        data = content[12 : 12 + length]
        assert struct.unpack("<I", content[8:12]) == (masked_crc(content[:8]),)
        assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked_crc(data),)
        content = content[16 + length :]


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_rows_after_the_step_of_a_resume_are_dropped(tmp_path):
    with StageLog(tmp_path, 0) as log:
        for step in range(1, 5):
            log.write(step, loss=float(step))
    with StageLog(tmp_path, 2) as log:
        log.write(3, loss=30.0)
        assert [row["loss"] for row in read_log(tmp_path)] == [1.0, 2.0, 30.0]  # whole after each call


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


ROW = {f"value{i}": float(i) for i in range(100)}  # more than a page


@pytest.mark.parametrize("may_fail", [False, True])
def test_a_full_disk(disk, may_fail, caplog):
    with StageLog(disk, 0, may_fail=may_fail) as log:
        log.write(1, **ROW)
        ballast = fill(disk)
        for step in range(2, 10):
            if may_fail:
                log.write(step, **ROW)
                continue
            with pytest.raises(InputError, match=r"(metrics.jsonl|tfevents.*) cannot be written \(No space left"):
                log.write(step, **ROW)
        rows = (disk / "metrics.jsonl").read_bytes()
        ballast.unlink()
        log.write(10, **ROW)
    assert [json.loads(line)["step"] for line in rows.splitlines()[:1]] == [1]
    assert read_log(disk) == [{"step": step, **ROW} for step in range(1, 11)]
    assert len(events(disk / "tensorboard")) == 2 + 10 * len(ROW)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == may_fail


def test_what_went_wrong_before_is_told(disk):
    with pytest.raises(ZeroDivisionError), StageLog(disk, 0) as log:
        fill(disk)
        with pytest.raises(InputError):
            for _ in range(3):
                log.write(1, **ROW)
        raise ZeroDivisionError
