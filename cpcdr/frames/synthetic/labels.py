"""The renderer's label ids: the first 14 train ids of Cityscapes; protocols map them."""

(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY,
 PERSON, RIDER, CAR) = range(14)  # fmt: skip
