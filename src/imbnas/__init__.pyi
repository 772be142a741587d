"""Types of the public names, which `__init__.py` imports when they are first asked for."""

from imbnas.data.class_sizes import choose_rows as choose_rows
from imbnas.data.class_sizes import class_counts as class_counts
from imbnas.errors import UserError as UserError
from imbnas.longtail.calibration import expected_calibration_error as expected_calibration_error
from imbnas.longtail.heads import NearestClassMean as NearestClassMean
from imbnas.longtail.heads import make_head as make_head
from imbnas.longtail.heads import posthoc_adjustment as posthoc_adjustment
from imbnas.longtail.heads import tau_normalise as tau_normalise
from imbnas.longtail.losses import build_loss as build_loss
from imbnas.longtail.metrics import standard_error as standard_error
from imbnas.longtail.metrics import summarise as summarise
from imbnas.longtail.samplers import ClassAwareSampler as ClassAwareSampler
from imbnas.longtail.samplers import ClassSampler as ClassSampler
from imbnas.longtail.samplers import DeferredSampler as DeferredSampler
from imbnas.longtail.samplers import ProgressiveSampler as ProgressiveSampler
from imbnas.longtail.samplers import power_probabilities as power_probabilities
from imbnas.longtail.schedules import switch_epoch as switch_epoch
from imbnas.longtail.shots import shot_groups as shot_groups
from imbnas.longtail.weights import class_weights as class_weights
from imbnas.params.space_options import SpaceParams as SpaceParams
from imbnas.saved import Network as Network
from imbnas.saved import load_subnet as load_subnet
from imbnas.spaces.registry import make_space as make_space

__version__: str
