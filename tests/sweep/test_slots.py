"""Cores and devices are handed out and taken back."""

from kdlab.sweep.job import Need
from kdlab.sweep.slots import Slots


def test_jobs_take_threads_times_processes():
    slots = Slots(cores=4)
    first, second = slots.take(Need(threads=1, world=2)), slots.take(Need(threads=2))
    assert (first.cores, second.cores) == (2, 2) and first.environment == {}
    assert slots.take(Need()) is None
    slots.give(second)
    assert slots.take(Need()) is not None


def test_a_job_that_needs_more_than_there_is_runs_alone():
    slots = Slots(cores=2)
    grant = slots.take(Need(threads=8))
    assert grant.cores == 2 and slots.take(Need()) is None
    slots.give(grant)
    small = slots.take(Need())
    assert slots.take(Need(threads=8)) is None
    slots.give(small)
    assert slots.take(Need(threads=8)) is not None


def test_the_number_of_workers_goes_before_the_cores():
    slots = Slots(cores=1, workers=3)
    assert all(slots.take(Need()) is not None for _ in range(3)) and slots.take(Need()) is None


def test_devices_are_handed_out_one_a_process_the_emptiest_first():
    slots = Slots(cores=16, devices=[0, 1, 2], jobs_per_device=2)
    gpu = Need(gpu=True)
    taken = [slots.take(gpu) for _ in range(3)]
    assert [grant.environment for grant in taken] == [{"CUDA_VISIBLE_DEVICES": number} for number in "012"]
    pair = slots.take(Need(world=2, gpu=True))
    assert pair.devices == [0, 1]
    assert slots.take(Need(world=2, gpu=True)) is None, "one device has room, two are wanted"
    assert slots.take(gpu).devices == [2] and slots.take(gpu) is None
    slots.give(taken[1])
    assert slots.take(gpu).devices == [1]


def test_a_job_for_the_processor_takes_no_device():
    slots = Slots(cores=2, devices=[0])
    assert slots.take(Need()).devices == [] and slots.take(Need(gpu=True)).devices == [0]
