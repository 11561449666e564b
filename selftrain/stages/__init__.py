"""The stages recipes are made of."""

from selftrain.stages.build import MakeExamples, MakePairs, MakeSteps
from selftrain.stages.corrupt import Corrupt
from selftrain.stages.evaluate import Evaluate
from selftrain.stages.find import FindThreshold
from selftrain.stages.gate import Gate
from selftrain.stages.generate import Generate, Gold
from selftrain.stages.propose import Adopt, Credit, Propose
from selftrain.stages.reference import Reference
from selftrain.stages.select import Pair, Select
from selftrain.stages.splice import Splice, Spliced
from selftrain.stages.train import ASFT, DPO, KTO, ORPO, SFT, SPIN, PoFT, Reward, SimPO, Steps, Train
from selftrain.stages.verify import Audit, Verify

__all__ = [
    "ASFT", "DPO", "KTO", "ORPO", "SFT", "SPIN", "Adopt", "Audit", "Corrupt", "Credit", "Evaluate",
    "FindThreshold", "Gate", "Generate", "Gold", "MakeExamples", "MakePairs", "MakeSteps", "Pair", "PoFT",
    "Propose", "Reference", "Reward", "Select", "SimPO", "Splice", "Spliced", "Steps", "Train", "Verify",
]  # fmt: skip
