# A subscription to a topic that is not there yet.
> join a rings
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
> topic rings 2
  resolved, group epoch 4
  assigned, 0 to move
  tell a, epoch 3: reads [rings/0 since 3, rings/1 since 3]
> delete topic rings
  forgotten, 0 offsets
  tell a, epoch 4: reads [], gives back [(deleted)/0, (deleted)/1]
  assigned, 0 to move
> give-back a
  acknowledged, 2 free
  tell a, epoch 4: reads []
> topic rings 1
  resolved, group epoch 6
  assigned, 0 to move
  tell a, epoch 5: reads [rings/0 since 5]
