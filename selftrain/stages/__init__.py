"""The stages recipes are made of."""

from selftrain.stages.build import MakeExamples, MakePairs
from selftrain.stages.evaluate import Evaluate
from selftrain.stages.gate import Gate
from selftrain.stages.generate import Generate, Gold
from selftrain.stages.select import Pair, Select
from selftrain.stages.train import SFT, Reward, Steps, Train
from selftrain.stages.verify import Audit, Verify

__all__ = [
    "SFT", "Audit", "Evaluate", "Gate", "Generate", "Gold", "MakeExamples", "MakePairs", "Pair", "Reward", "Select",
    "Steps", "Train", "Verify",
]  # fmt: skip
