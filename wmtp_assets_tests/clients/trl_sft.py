"""TRL's ``SFTTrainer``: one step on the pairs of two datasets, with a micro model.

A program of its own: it runs in any environment that has trl and ``wmtp_assets``::

    python -m wmtp_assets_tests.clients.trl_sft ROOT

TRL counts the loss of the completion alone, as it does for rows of ``prompt`` and ``completion``.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path


def main(root: Path) -> None:
    """Train for one step: the loss is a number, and the weights change."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets
    from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportMissingImports]

    import wmtp_assets

    # The first file's is_correct is null in every row: without features its type is a guess.
    names = ("mbpp", "codecontests")
    files = [str(root / f"datasets_v2/{name}/pairs/train.jsonl") for name in names]
    features = wmtp_assets.features(files[0])
    with tempfile.TemporaryDirectory() as folder:
        rows = datasets.load_dataset(
            "json", data_files=files, features=features, split="train", cache_dir=folder
        )
        rows = rows.rename_column("response", "completion")
        trainer = SFTTrainer(
            model=str(root / "models_v2/micro-ref/safetensors"),
            args=SFTConfig(
                folder,
                model_init_kwargs={"dtype": "float32"},
                max_steps=1,
                per_device_train_batch_size=2,
                max_length=512,
                learning_rate=1e-3,
                report_to=[],
                save_strategy="no",
                use_cpu=True,
                bf16=False,
            ),
            train_dataset=rows.select([0, 1, len(rows) - 2, len(rows) - 1]),
        )
        weights = trainer.model.get_input_embeddings().weight
        before = weights.detach().clone()
        loss = trainer.train().training_loss
        if not math.isfinite(loss) or loss <= 0:
            sys.exit(f"the loss is {loss}")
        if before.equal(weights):
            sys.exit("no weight changed")
    print(f"one step on pairs of {' and '.join(names)}, {len(rows)} rows: loss {loss:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
