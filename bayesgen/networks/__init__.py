"""Network architectures for small images and tables, and layers with soft inductive biases."""

from bayesgen.networks import transforms
from bayesgen.networks.averaged import Averaged
from bayesgen.networks.low_rank import LowRank, low_rank
from bayesgen.networks.matching import matched
from bayesgen.networks.residual_pathway import ResidualPathway, dense_form
from bayesgen.networks.resnets import PreResNet20, ResNet18
from bayesgen.networks.small import MLP, ConvNet, LeNet
from bayesgen.networks.transformer import Transformer
from bayesgen.networks.vgg import VGG

__all__ = [
    "MLP",
    "VGG",
    "Averaged",
    "ConvNet",
    "LeNet",
    "LowRank",
    "PreResNet20",
    "ResNet18",
    "ResidualPathway",
    "Transformer",
    "dense_form",
    "low_rank",
    "matched",
    "transforms",
]
