from . import ops
from .operators import *
from .properties import *
