"""All small trainings on one process's share of each batch: ``python -m one_rank RANK WORLD FOLDER``."""

import sys

import torch
import torch.distributed as dist

from brcd_lightning.data.fake import fake
from small_cases import CASES, trained

if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save({case: trained(case, fake(), rank, world) for case in CASES}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
