"""The default estimator beside its peers, in the same streams: reward, spend, regret, speed, use of newcomers."""
