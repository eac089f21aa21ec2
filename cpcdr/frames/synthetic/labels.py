"""Train ids of the protocol ``synthetic``: the first 14 of Cityscapes."""

(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY,
 PERSON, RIDER, CAR) = range(14)  # fmt: skip
