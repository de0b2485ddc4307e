import pytest
import torch

from dermask.errors import SettingError
from dermask.training import distributed
from dermask.training.distributed import Processes, choose_device, choose_precision, join_processes

CPU = torch.device("cpu")


class TestAlone:
    def test_one_process_is_the_first_and_waits_for_nobody(self):
        with join_processes("cpu") as processes:
            assert processes == Processes(rank=0, world_size=1, device=CPU)
            assert processes.is_first
            processes.barrier()
            assert processes.mean({"loss": 2.0}) == {"loss": 2.0}
            assert processes.gather([1, 2]) == [1, 2]


class TestDevice:
    def test_auto_takes_what_is_there(self):
        assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(SettingError, match=r"device 'gpu': is unknown; use auto, cpu or cuda"):
            choose_device("gpu")

    def test_a_gpu_that_is_not_there_is_refused(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(SettingError, match=r"'cuda': torch finds no GPU here"):
            choose_device("cuda")

    def test_each_process_of_a_machine_takes_its_own_gpu(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device("auto", local_rank=3) == torch.device("cuda:3")
        assert choose_device("cuda:1", local_rank=3) == torch.device("cuda:1")


class TestPrecision:
    @pytest.mark.parametrize(("setting", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
    def test_a_setting_is_followed(self, setting, expected):
        assert choose_precision(setting, CPU) == expected

    @pytest.mark.parametrize(
        ("has_amx", "has_avx512_bf16", "expected"),
        [
            (True, False, torch.bfloat16),
            (False, True, torch.bfloat16),
            (True, True, torch.bfloat16),
            (False, False, torch.float32),
        ],
    )
    def test_auto_asks_the_processor(self, monkeypatch, has_amx, has_avx512_bf16, expected):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512_bf16, raising=False)
        assert choose_precision("auto", CPU) == expected

    def test_auto_is_float32_where_torch_does_not_say(self, monkeypatch):
        monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
        monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
        assert choose_precision("auto", CPU) == torch.float32

    def test_auto_is_float32_on_other_devices(self):
        assert choose_precision("auto", torch.device("mps")) == torch.float32


def test_gather_deals_back_in_turn(monkeypatch):
    def all_gather_object(parts, items):
        parts[:] = [["a0", "a1", "a2"], ["b0", "b1"]]

    monkeypatch.setattr(distributed.dist, "all_gather_object", all_gather_object)
    assert Processes(0, 2, CPU).gather(["a0", "a1", "a2"]) == ["a0", "b0", "a1", "b1", "a2"]
