"""All groups, in the order they run: what is quick and common first."""
from .operations import (Operations, OperationsInLegacyDirectories, OperationsWithConversations, OperationsWithImmediateExpunge,
                         OperationsWithMetadataPartition)
from .absence import Absence
from .bad_mailbox import BadMailbox
from .commands import Commands
from .crashes import Crashes
from .damage import Damage
from .hostile import Confinement, Hostile
from .link import Link
from .load import Load
from .promotion import Promotion
from .seeding import Seeding

GROUPS = [Operations, Commands, Load, Seeding, Crashes, Link, Absence, Promotion, Damage, Hostile, Confinement, BadMailbox, OperationsWithConversations,
          OperationsWithImmediateExpunge, OperationsInLegacyDirectories, OperationsWithMetadataPartition]
