import numpy as np
import pytest
import torch

from dermask.config import MODEL_PRESETS, NO_AUGMENTATION, ImageSettings
from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.masks import mask_boxes
from dermask.records import Bitmask, Instance, Sample
from dermask.scaling import network_size, padded_size
from dermask.training.loading import TrainLoader, canvas_size, class_balance, epoch_order, make_batch
from training_examples import discs, tiny_settings


def batches(dataset, settings, epoch=1, **share):
    return list(TrainLoader(dataset, settings, **share).batches(epoch))


def assert_same_batches(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.image_ids == other.image_ids
        assert torch.equal(one.seeds, other.seeds)
        for a, b in zip(one.images, other.images, strict=True):
            assert torch.equal(a, b)
        for a, b in zip(one.targets, other.targets, strict=True):
            assert torch.equal(a.masks, b.masks)
            assert torch.equal(a.boxes, b.boxes)


class TestEpochOrder:
    @pytest.mark.parametrize(("count", "needed"), [(1, 1), (5, 5), (5, 4), (5, 15), (3, 8)])
    def test_every_photograph_comes_equally_often(self, count, needed):
        order = epoch_order(count, needed, seed=0, epoch=1)
        assert len(order) == needed
        times = np.bincount(order, minlength=count)
        assert times.max() - times.min() <= 1
        for start in range(0, needed - count + 1, count):
            assert sorted(order[start : start + count]) == list(range(count))

    def test_follows_from_seed_and_epoch_alone(self):
        first = epoch_order(50, 50, seed=3, epoch=7)
        np.testing.assert_array_equal(first, epoch_order(50, 50, seed=3, epoch=7))
        assert (first != epoch_order(50, 50, seed=3, epoch=8)).any()
        assert (first != epoch_order(50, 50, seed=4, epoch=7)).any()

    def test_weights_are_shares_of_the_places(self):
        order = epoch_order(3, 20_000, seed=0, epoch=1, weights=np.array([0.7, 0.3, 0.0]))
        shares = np.bincount(order, minlength=3) / len(order)
        np.testing.assert_allclose(shares, (0.7, 0.3, 0), atol=0.02, err_msg="sampling noise of 20,000 draws")


class TestClassBalance:
    def dataset(self, *labels):
        image, mask = np.zeros((4, 4, 3), np.uint8), Bitmask(np.ones((4, 4), bool))
        samples = [
            Sample(str(number), image, None, tuple(Instance(label, mask) for label in found))
            for number, found in enumerate(labels)
        ]
        return Dataset(samples, ("a", "b"))

    @pytest.mark.parametrize(
        ("labels", "shares"),
        [
            ([(1,), (1,)], [1 / 2, 1 / 2]),
            ([(1,), (1,), (1,), (2,)], [1 / 6, 1 / 6, 1 / 6, 1 / 2]),
            ([(1,), (1,), (1, 2)], [1 / 5, 1 / 5, 3 / 5]),
            ([(), (1,), (1,)], [1 / 2, 1 / 4, 1 / 4]),
        ],
        ids=["one class", "one rare class", "both in one photograph", "a photograph without a lesion"],
    )
    def test_rare_classes_come_as_often_as_common_ones(self, labels, shares):
        np.testing.assert_allclose(class_balance(self.dataset(*labels)), shares)

    def test_the_setting_turns_it_on(self):
        settings = tiny_settings(steps_per_epoch=50, batch_size=8, class_balanced=True)
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"class_names": ("a", "b")})})
        places = TrainLoader(self.dataset(*[(1,)] * 9, (2,)), settings).places(1)
        rare = [place.photo == 9 for batch in places for place in batch]
        assert 0.4 < np.mean(rare) < 0.6


class TestSameBatches:
    dataset = discs(6, lesions=(1, 0, 2))

    def test_whatever_was_made_before(self):
        settings = tiny_settings()
        loader = TrainLoader(self.dataset, settings)
        list(loader.batches(1))
        assert_same_batches(list(loader.batches(2)), batches(self.dataset, settings, epoch=2))

    def test_with_photographs_kept_in_memory(self):
        settings = tiny_settings(cache_images=True, steps_per_epoch=6)
        loader = TrainLoader(self.dataset, settings)
        for epoch in (1, 2):
            plain = batches(self.dataset, tiny_settings(steps_per_epoch=6), epoch)
            assert_same_batches(list(loader.batches(epoch)), plain)

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
    def test_with_worker_processes(self):
        loader = TrainLoader(self.dataset, tiny_settings(workers=2))
        for epoch in (1, 2):
            assert_same_batches(list(loader.batches(epoch)), batches(self.dataset, tiny_settings(), epoch))

    def test_split_over_processes_in_turn(self):
        whole = batches(self.dataset, tiny_settings(batch_size=4))
        shares = [batches(self.dataset, tiny_settings(batch_size=2), rank=rank, world_size=2) for rank in (0, 1)]
        for batch, first, second in zip(whole, *shares, strict=True):
            assert batch.image_ids[0::2] == first.image_ids
            assert batch.image_ids[1::2] == second.image_ids
            assert torch.equal(batch.seeds[1::2], second.seeds)
            assert torch.equal(batch.images[3], second.images[1])

    def test_epochs_differ(self):
        first, second = (batches(self.dataset, tiny_settings(), epoch) for epoch in (1, 2))
        assert not torch.equal(first[0].images[0], second[0].images[0])

    def test_a_photograph_twice_in_an_epoch_is_augmented_anew(self):
        one, two = batches(self.dataset[:1], tiny_settings(steps_per_epoch=1))[0].images
        assert not torch.equal(one, two)


class TestBatch:
    def test_images_are_bytes_until_they_are_moved(self):
        batch = batches(discs(2), tiny_settings())[0]
        moved = batch.to(torch.device("cpu"))
        assert batch.images[0].dtype == torch.uint8
        assert moved.images[0].dtype == torch.float32
        torch.testing.assert_close(moved.images[0] * 255, batch.images[0].float(), atol=1e-4, rtol=0)

    def test_boxes_are_tight_around_the_masks(self):
        for batch in batches(discs(4, lesions=(2,)), tiny_settings()):
            for target in batch.targets:
                np.testing.assert_array_equal(target.boxes, mask_boxes(target.masks.numpy()))
                assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()

    def test_photographs_without_a_lesion_have_empty_targets(self):
        target = batches(discs(1, lesions=(0,)), tiny_settings())[0].targets[0]
        assert target.boxes.shape == (0, 4)
        assert target.labels.shape == (0,)
        assert target.masks.shape == (0, 64, 64)

    def test_mosaics_bring_several_lesions(self):
        settings = tiny_settings(batch_size=16, steps_per_epoch=1)
        settings = settings.model_copy(update={"augment": NO_AUGMENTATION.model_copy(update={"mosaic": 1.0})})
        counts = [len(target.labels) for target in batches(discs(4), settings)[0].targets]
        assert set(counts) == {2, 3, 4}

    def test_one_photograph_cannot_be_a_mosaic(self):
        settings = tiny_settings()
        settings = settings.model_copy(update={"augment": NO_AUGMENTATION.model_copy(update={"mosaic": 1.0})})
        assert len(batches(discs(1), settings)[0].targets[0].labels) == 1

    def test_pasted_lesions_bring_more_than_a_photograph_has(self):
        settings = tiny_settings(batch_size=16, steps_per_epoch=1)
        settings = settings.model_copy(update={"augment": NO_AUGMENTATION.model_copy(update={"paste": 1.0})})
        counts = [len(target.labels) for target in batches(discs(4), settings)[0].targets]
        assert min(counts) >= 1
        assert max(counts) > 1

    def test_bare_skin_brings_photographs_without_a_lesion(self):
        settings = tiny_settings(batch_size=16, steps_per_epoch=1)
        settings = settings.model_copy(update={"augment": NO_AUGMENTATION.model_copy(update={"bare_skin": 1.0})})
        batch = batches(discs(4), settings)[0]
        assert [len(target.labels) for target in batch.targets].count(0) > 8

    def test_drawn_scenes_take_the_place_of_photographs_and_read_none(self, tmp_path):
        settings = tiny_settings(batch_size=16, steps_per_epoch=1)
        settings = settings.model_copy(update={"augment": NO_AUGMENTATION.model_copy(update={"drawn": 1.0})})
        unreadable = Dataset([Sample("missing", tmp_path / "missing.jpg")])
        batch = batches(unreadable, settings)[0]
        counts = [len(target.labels) for target in batch.targets]
        assert 0 in counts
        assert max(counts) > 1
        assert len({image.numpy().tobytes() for image in batch.images}) == 16

    def test_drawn_scenes_show_no_lesion_to_a_network_of_several_classes(self):
        settings = tiny_settings(batch_size=8, steps_per_epoch=1)
        model = settings.model.model_copy(update={"class_names": ("naevus", "melanoma")})
        augment = NO_AUGMENTATION.model_copy(update={"drawn": 1.0})
        settings = settings.model_copy(update={"model": model, "augment": augment})
        assert [len(target.labels) for target in batches(discs(4), settings)[0].targets] == [0] * 8

    def test_about_the_share_that_was_set_is_drawn(self):
        settings = tiny_settings(batch_size=100, steps_per_epoch=1)
        settings = settings.model_copy(
            update={"augment": NO_AUGMENTATION.model_copy(update={"drawn": 0.2, "bare_skin": 0.3})}
        )
        names = batches(discs(4), settings)[0].image_ids
        assert 10 <= sum(name.startswith("scene_") for name in names) <= 32

    def test_an_unreadable_photograph_stops_with_its_name(self, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"not a photograph")
        dataset = Dataset([Sample("broken", tmp_path / "broken.jpg")])
        with pytest.raises(InputError, match=r"broken\.jpg"):
            batches(dataset, tiny_settings())

    def test_make_batch_takes_images_that_cannot_be_written(self):
        sample = discs(1).load(0)
        sample.image.setflags(write=False)
        assert make_batch([sample], torch.zeros(1, dtype=torch.int64)).images[0].shape == (3, 64, 64)


class TestSteps:
    @pytest.mark.parametrize(
        ("count", "train", "world_size", "steps"),
        [
            (1, {"batch_size": 8}, 1, 1),
            (16, {"batch_size": 8}, 1, 2),
            (17, {"batch_size": 8}, 1, 3),
            (17, {"batch_size": 8, "accumulate": 2}, 1, 2),
            (17, {"batch_size": 8}, 2, 2),
            (17, {"batch_size": 8, "steps_per_epoch": 100}, 1, 100),
        ],
    )
    def test_an_epoch_shows_every_photograph_or_has_the_steps_asked_for(self, count, train, world_size, steps):
        settings = tiny_settings(**({"steps_per_epoch": None} | train))
        loader = TrainLoader(discs(1).select([0]), settings, world_size=world_size)
        loader.count = count
        assert loader.steps_per_epoch == steps
        places = loader.places(1)
        assert len(places) == steps * settings.train.accumulate
        assert {len(batch) for batch in places} == {8}


@pytest.mark.parametrize("image", [preset.image for preset in MODEL_PRESETS.values()], ids=list(MODEL_PRESETS))
def test_the_network_takes_the_canvas_as_it_is(image: ImageSettings):
    canvas = canvas_size(image)
    assert network_size(canvas, image) == canvas
    assert padded_size(canvas, image) == canvas
