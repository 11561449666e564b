"""The stages recipes are made of."""

from selftrain.stages.build import MakeExamples, MakePairs
from selftrain.stages.corrupt import Corrupt
from selftrain.stages.evaluate import Evaluate
from selftrain.stages.find import FindThreshold
from selftrain.stages.gate import Gate
from selftrain.stages.generate import Generate, Gold
from selftrain.stages.propose import Adopt, Credit, Propose
from selftrain.stages.reference import Reference
from selftrain.stages.select import Pair, Select
from selftrain.stages.train import DPO, KTO, ORPO, SFT, SPIN, Reward, SimPO, Steps, Train
from selftrain.stages.verify import Audit, Verify

__all__ = [
    "DPO", "KTO", "ORPO", "SFT", "SPIN", "Adopt", "Audit", "Corrupt", "Credit", "Evaluate", "FindThreshold",
    "Gate", "Generate", "Gold", "MakeExamples", "MakePairs", "Pair", "Propose", "Reference", "Reward", "Select",
    "SimPO", "Steps", "Train", "Verify",
]  # fmt: skip
