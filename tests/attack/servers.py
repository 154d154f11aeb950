from .report import Checked
def attack(covers, seconds, seed): return []
def replay(name, attack): return 1
