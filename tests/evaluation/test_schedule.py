"""Who does what when: conditions that another process is at wait until everything else is done."""

from pathlib import Path

from filelock import FileLock, Timeout

from shiftbench.encoders.base import Encoder
from shiftbench.evaluation import evaluate, schedule


def test_what_another_process_is_at_comes_last(means, small, monkeypatch):
    asked = []

    class Busy(FileLock):
        """Another process has the clean condition, until somebody waits for it."""

        def acquire(self, *arguments, **options):
            condition = Path(self.lock_file).stem
            asked.append((condition, self.timeout))
            if condition == "clean" and self.timeout == 0:
                raise Timeout(self.lock_file)
            return super().acquire(*arguments, **options)

    monkeypatch.setattr(schedule, "FileLock", Busy)
    results = evaluate(means, **small, workers=1)
    assert asked == [("clean", 0), ("gaussian_noise-5", 0), ("fog-1", 0), ("clean", -1)]
    assert (results.cells["status"] == "ok").all()


def test_features_are_looked_at_on_images_from_the_whole_split(small, monkeypatch, capsys):
    """Ten of thirty: every third. What looks wrong is said before everything is encoded."""

    seen = []

    class Network(Encoder):
        castable = True

        def check(self, images):
            seen.append(images)
            return ["all images look the same"]

    network = Network("net", lambda x: {"backbone": x.float().mean(dim=(2, 3))}, fingerprint="net")
    monkeypatch.setattr(schedule, "LOOKED_AT", 10)
    evaluate(network, **small, dtype="float32")
    assert [images.tolist() for images in seen] == [small["data"].test.images[::3].tolist()]
    assert "net: all images look the same" in capsys.readouterr().err
