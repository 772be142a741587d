from __future__ import annotations

import numpy as np

from imbnas.data.order import InstanceSampler


def test_each_epoch_is_its_own_permutation():
    sampler = InstanceSampler(np.zeros(50, np.int64), 3)
    epochs = [sampler.epoch(k) for k in range(4)]
    for rows in epochs:
        np.testing.assert_array_equal(np.sort(rows), np.arange(50))
    assert len({rows.tobytes() for rows in epochs}) == 4
    np.testing.assert_array_equal(InstanceSampler(np.zeros(50), 3).epoch(2), epochs[2])
    assert not np.array_equal(InstanceSampler(np.zeros(50), 4).epoch(2), epochs[2])


def test_the_first_epoch_is_fixed():
    assert InstanceSampler(np.zeros(8), 0).epoch(0).tolist() == [4, 6, 7, 1, 2, 3, 0, 5]
