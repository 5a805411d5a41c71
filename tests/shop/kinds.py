"""Kinds of module that people have: each is a function without arguments, as a study names it. They
embed images of 32 pixels by a few layers.
"""

import threading

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Fn(nn.Module):
    """A layer without weights."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def seq(*layers):
    return nn.Sequential(*layers)


def body(channels=3):
    """Images (N, 3, 32, 32) to maps (N, 32, 6, 6)."""
    torch.manual_seed(7)
    return seq(nn.Conv2d(channels, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU())


def mean():
    return Fn(lambda f: f.mean((2, 3)))


def plain():
    return seq(body(), mean())


# Names of weights


class Holder(nn.Module):
    """An attribute `module` of its own."""

    def __init__(self):
        super().__init__()
        self.module = plain()

    def forward(self, x):
        return self.module(x)


def holder():
    return Holder()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.one, self.two = plain(), nn.Linear(32, 32), nn.Linear(32, 32)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(self.net(x)).relu())


def tied():
    torch.manual_seed(9)
    return Tied()


# layout of memory
def flat_view():
    return seq(body(), Fn(lambda f: f.view(len(f), -1)), nn.Linear(32 * 36, 48))


# tables of the first forward pass
class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.known = {}

    def forward(self, f):
        key = tuple(f.shape[2:])
        if key not in self.known:
            self.known[key] = torch.linspace(0.5, 1.5, key[0])[:, None] * torch.linspace(
                1.5, 0.5, key[1]
            )
        return (f * self.known[key]).mean((2, 3))


def table():
    return seq(body(), Table())


# weights that are computed
def weight_norm():
    return seq(body(), mean(), nn.utils.weight_norm(nn.Linear(32, 24)))


def spectral_conv():
    return seq(
        body(),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(32, 24, 3)),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        mean(),
    )


class Hooked(nn.Module):
    """Takes its embedding from a layer's hook, as feature extractors do."""

    def __init__(self):
        super().__init__()
        self.body, self.seen = body(), {}
        self.body[2].register_forward_hook(lambda layer, given, made: self.seen.update(made=made))

    def forward(self, x):
        self.body(x)
        return self.seen["made"].mean((2, 3))


def hooked():
    return Hooked()


class Lazy(nn.Module):
    """Registers a buffer at its first forward pass."""

    def forward(self, f):
        if not hasattr(self, "table"):
            self.register_buffer("table", torch.linspace(0.5, 1.5, f.shape[-1]))
        return (f * self.table).mean((2, 3))


def lazy():
    return seq(body(), Lazy())


def locked():
    made = plain()
    made.lock = threading.Lock()
    return made


def shifted_rows():
    """Cuts its input to pieces as the memory lies."""
    return seq(Fn(lambda x: x.view(len(x), -1)), nn.Linear(3 * 32 * 32, 24))


# an image's embedding depends on its neighbours
def batch_norm_2d():
    return seq(
        body(),
        nn.Conv2d(32, 24, 3),
        nn.BatchNorm2d(24, track_running_stats=False),
        nn.ReLU(),
        mean(),
    )


def batch_norm_1d():
    return seq(body(), mean(), nn.Linear(32, 24), nn.BatchNorm1d(24, track_running_stats=False))


def batch_centred():
    return seq(body(), Fn(lambda f: f.mean((2, 3)) - f.mean((0, 2, 3))[None]))


# gradients that are not finite
class Colour(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.net, self.inside = seq(body(4), mean()), inside

    def forward(self, x):
        spread = ((x - x.roll(1, 1)) ** 2).sum(1, keepdim=True)
        return self.net(torch.cat([x, (spread + self.inside).sqrt()], 1))


def colour():
    return Colour(0.0)


def colour_safe():
    return Colour(1e-12)


def saturation():
    def add(x):
        high, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
        return torch.cat([x, ((high - low) / high.clamp_min(1e-6)).pow(0.5)], 1)

    return seq(Fn(add), body(4), mean())


# backward raises
class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = body()

    def forward(self, x):
        return checkpoint(self.body, x, use_reentrant=True).mean((2, 3))


def again():
    return Again()


class Forward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()


def no_backward():
    return seq(body(), Fn(Forward.apply), mean())


def zero_on_white():
    torch.manual_seed(7)
    first, second = nn.Conv2d(3, 16, 5, 2, bias=False), nn.Conv2d(16, 32, 3, 2, bias=False)
    return seq(Fn(lambda x: 1.0 - x), first, nn.ReLU(), second, nn.ReLU(), mean())


# Siblings


def strided():
    """Reads its input as the memory lies, and nothing says so."""
    return seq(
        Fn(lambda x: x.as_strided((len(x), 3 * 32 * 32), (3 * 32 * 32, 1))),
        nn.Linear(3 * 32 * 32, 24),
    )


class FlatBackward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return 2 * x

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient.view(len(gradient), -1).view(gradient.shape)


def flat_backward():
    return seq(body(), Fn(FlatBackward.apply), nn.Conv2d(32, 8, 3), mean())


def volume():
    """A kernel of five dimensions, which channels-last memory does not know."""
    torch.manual_seed(7)
    return seq(
        Fn(lambda x: x[:, None]), nn.Conv3d(1, 16, (3, 5, 5), 2), Fn(lambda f: f.mean((2, 3, 4)))
    )


def lazy_linear():
    torch.manual_seed(7)
    return seq(nn.Flatten(), nn.LazyLinear(24))


def dropout():
    return seq(body(), Fn(lambda f: nn.functional.dropout(f, 0.5)), mean())


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.calls = plain(), 0

    def forward(self, x):
        self.calls += 1
        return self.net(x + 0.1 * self.calls)


def counting():
    return Counting()


class Inferring(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    @torch.inference_mode()
    def forward(self, x):
        return self.net(x)


def inferring():
    return Inferring()


def pair():
    return seq(plain(), Fn(lambda f: (f, None)))


class Extra(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def get_extra_state(self):
        return {"step": 3}

    def set_extra_state(self, state):
        pass

    def forward(self, x):
        return self.net(x)


def extra_state():
    return Extra()


def tiny_embeddings():
    return seq(plain(), Fn(lambda f: 1e-10 * f))


def huge_embeddings():
    return seq(plain(), Fn(lambda f: 1e20 * f))


def brain_floats():
    return seq(Fn(lambda x: x.bfloat16()), body(), mean()).bfloat16()


def standardised():
    """Has no embedding of an image of one colour."""
    return seq(
        Fn(lambda x: (x - x.mean((1, 2, 3), True)) / x.std((1, 2, 3), keepdim=True)), plain()
    )
