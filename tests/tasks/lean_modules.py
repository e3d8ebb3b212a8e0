"""Small modules that use a loop in every way that Lightning allows."""

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

BATCHES = 7


class Quiet(LightningModule):
    """A small network with dropout, which logs here and there, in training and validation under one name too."""

    def __init__(self, calls, schedule="step"):
        super().__init__()
        self.calls, self.schedule = calls, schedule
        self.network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.network(batch["x"]), batch["y"])
        if batch_idx % 3 == 0:
            self.log("loss", loss)
            self.log("shown", loss.detach() * 2, prog_bar=True)
        if batch_idx % 3 == 1:  # and nothing is logged in the third
            self.log("mean", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("loss", self.network(batch["x"]).mean())

    def on_after_backward(self):
        if self.trainer.fit_loop.batch_idx % 3 == 1:
            self.log("gradient", self.network[0].weight.grad.norm())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        if self.schedule == "plateau":
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.7)
        else:
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.95)
        interval = "epoch" if self.schedule == "epoch" else "step"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": interval, "monitor": "loss"},
        }

    def train_dataloader(self):
        return self._loader(4 * BATCHES)

    def val_dataloader(self):
        return self._loader(8)

    def _loader(self, n):
        draw = torch.Generator().manual_seed(n)
        rows = [{"x": torch.randn(4, generator=draw), "y": int(torch.randint(3, (), generator=draw))} for _ in range(n)]
        return DataLoader(rows, batch_size=4)


class OnlyTheBatch(Quiet):
    def training_step(self, batch):
        return {"loss": super().training_step(batch, 1), "more": torch.tensor(3.0)}


class Skips(Quiet):
    """Trains on no batch with an odd index."""

    def training_step(self, batch, batch_idx):
        return None if batch_idx % 2 else super().training_step(batch, batch_idx)


class OwnStep(Quiet):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(closure=optimizer_closure)
        self.calls.append((epoch, batch_idx, self._current_fx_name))


class EndsEpoch(Quiet):
    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 4 else None


class GivesNone(Quiet):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return None if self.trainer.training and self.trainer.fit_loop.batch_idx == 2 else batch


class ByHand(Quiet):
    def __init__(self, *args):
        super().__init__(*args)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class TakesIterator(Quiet):
    on_after_backward = LightningModule.on_after_backward

    def training_step(self, dataloader_iter):
        batch, _, _ = next(dataloader_iter)
        loss = nn.functional.cross_entropy(self.network(batch["x"]), batch["y"])
        self.log("loss", loss, batch_size=4)
        return loss


class TwoLoaders(Quiet):
    """Trains on two loaders, the shorter of which begins again."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch["first"], batch_idx) + super().training_step(batch["second"], 2)

    def train_dataloader(self):
        return {"first": super().train_dataloader(), "second": self._loader(8)}


class NoLength(Quiet):
    def train_dataloader(self):
        return DataLoader(Stream(super().train_dataloader().dataset), batch_size=4)


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)
