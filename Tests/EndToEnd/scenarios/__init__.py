"""All groups, in the order they run: what is quick and common first."""
from .operations import (Operations, OperationsInLegacyDirectories, OperationsWithConversations, OperationsWithImmediateExpunge,
                         OperationsWithMetadataPartition)
from .absence import Absence
from .bad_mailbox import BadMailbox
from .commands import Commands
from .corruptions import Corruptions
from .crashes import Crashes
from .damage import Damage
from .demonstration import Demonstration
from .exhaustion import Exhaustion
from .faults import Faults
from .hostile import Confinement, Hostile
from .link import Link
from .load import Load
from .moments import Moments
from .places import Places
from .power import Power
from .promotion import Promotion
from .replicas import Replicas
from .seeding import Seeding
from .tools import Tools
from .verify import Verify

GROUPS = [Operations, Commands, Load, Seeding, Crashes, Link, Absence, Exhaustion, Faults, Power, Moments, Promotion, Replicas, Damage, Places, Hostile, Confinement, BadMailbox, Verify, Corruptions, Tools, OperationsWithConversations,
          OperationsWithImmediateExpunge, OperationsInLegacyDirectories, OperationsWithMetadataPartition, Demonstration]
