# A pattern takes in topics that come, and lets go of those that are deleted.
> topic orders-eu 2
> join a orders-.*
  joined, epoch 2
  resolved, group epoch 3
  assigned, 0 to move
  tell a, epoch 3: reads [orders-eu/0 since 3, orders-eu/1 since 3]
> topic orders-us 1
  resolved, group epoch 4
  assigned, 0 to move
  tell a, epoch 4: reads [orders-eu/0 since 3, orders-eu/1 since 3, orders-us/0 since 4]
> topic payments 3
> commit a orders-eu/1 4
  done
> delete topic orders-eu
  forgotten, 1 offsets
  tell a, epoch 5: reads [orders-us/0 since 4], gives back [(deleted)/0, (deleted)/1]
  assigned, 0 to move
> give-back a
  acknowledged, 2 free
  tell a, epoch 5: reads [orders-us/0 since 4]
> offsets
  committed []
