"""Locks that are waited for."""

import threading

from brcd_lightning.storage import locks
from brcd_lightning.storage.locks import locked


def test_a_lock_that_is_held_is_waited_for_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)
    order, told = [], threading.Event()
    monkeypatch.setattr(locks, "print_rank_zero", lambda text: (print(text), told.set()))

    def second():
        with locked(tmp_path / "lock", "bakes the same cake"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "lock", "bakes the same cake"):
        thread.start()
        assert told.wait(timeout=30)
        order.append("first")
    thread.join(timeout=30)
    assert order == ["first", "second"]
    said = f"Waiting for another process that bakes the same cake and holds {tmp_path / 'lock'}.\n"
    assert capsys.readouterr().out == said


def test_a_free_lock_is_taken_without_a_word(tmp_path, capsys):
    for _ in range(2):
        with locked(tmp_path / "lock", "bakes the same cake"):
            pass
    assert capsys.readouterr().out == ""
