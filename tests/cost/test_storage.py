import torch

from lightning_cost.cost.storage import storage_bytes, storage_key, storage_of


def test_views_share_and_meta_tensors_do_not():
    whole = torch.zeros(4, 4)
    assert storage_key(whole) == storage_key(whole[1:].t())
    assert storage_key(whole) != storage_key(whole.clone())
    meta = torch.zeros(4, device="meta"), torch.zeros(4, device="meta")
    assert storage_key(meta[0]) != storage_key(meta[1])
    assert storage_bytes(storage_of(whole[:1])) == 64


def test_a_sparse_tensor_stands_for_itself():
    sparse = torch.eye(3).to_sparse()
    assert storage_of(sparse) is sparse
    assert storage_key(sparse) == storage_key(sparse)
    assert storage_bytes(sparse) == 36
