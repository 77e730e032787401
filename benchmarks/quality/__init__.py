"""The default rule beside its peers, in the same streams: reward, spend, regret, speed, how soon newcomers are used."""
